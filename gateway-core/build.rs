//! Compiles `gate.proto`'s messages with protox and prost; no protoc, no generated file in the tree.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let file = "proto/bulkhead/v1/gate.proto";
    println!("cargo:rerun-if-changed={file}");
    let set = protox::compile([file], ["proto"])?;
    prost_build::Config::new().bytes(["."]).compile_fds(set)?;
    Ok(())
}
