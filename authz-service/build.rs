//! Generates the tonic service of `gate.proto`, whose messages are gateway-core's, and keeps its description for reflection.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let include = "../gateway-core/proto";
    let file = "bulkhead/v1/gate.proto";
    println!("cargo:rerun-if-changed={include}/{file}");
    let mut compiler = protox::Compiler::new([include])?;
    compiler.include_imports(true).open_file(file)?;
    let descriptors = std::path::Path::new(&std::env::var("OUT_DIR")?).join("gate.descriptors");
    std::fs::write(descriptors, compiler.encode_file_descriptor_set())?;
    let set = compiler.file_descriptor_set();
    tonic_prost_build::configure().extern_path(".bulkhead.v1", "::gateway_core::gate").compile_fds(set)?;
    Ok(())
}
