//! Generates the tonic service of `gate.proto`; its messages are gateway-core's.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let include = "../gateway-core/proto";
    let file = "bulkhead/v1/gate.proto";
    println!("cargo:rerun-if-changed={include}/{file}");
    let set = protox::compile([file], [include])?;
    tonic_prost_build::configure().extern_path(".bulkhead.v1", "::gateway_core::gate").compile_fds(set)?;
    Ok(())
}
