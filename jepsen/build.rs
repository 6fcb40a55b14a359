//! Compiles the protocol between nodes, which a hostile member speaks too; with protox: no protoc is needed.
fn main() -> Result<(), Box<dyn std::error::Error>> {
    const PROTO: &str = "../crates/replica/proto";
    println!("cargo:rerun-if-changed={PROTO}");
    let files = protox::compile(["quorate/peer/v1/peer.proto"], [PROTO])?;
    tonic_prost_build::configure().bytes(".").compile_fds(files)?;
    Ok(())
}
