//! Compiles the protocol with protox: no protoc is needed.

/// Messages that carry plaintext, key material, a share or an invitation.
const SECRET: [&str; 17] = [
    "EncryptRequest",
    "AgreeResponse",
    "DecapsulateResponse",
    "DecryptResponse",
    "DeriveKeyResponse",
    "EncapsulateResponse",
    "ExportKeyResponse",
    "GenerateDataKeyPairResponse",
    "GenerateDataKeyResponse",
    "GenerateRandomResponse",
    "GetSecretResponse",
    "InitResponse",
    "SetSecretRequest",
    "SubmitShareRequest",
    "InviteResponse",
    "UnwrapResponse",
    "WrapRequest",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let files = protox::compile(
        ["keys", "secrets", "namespaces", "principals", "operator", "reason"]
            .map(|of| format!("quorate/v1/{of}.proto")),
        ["proto"],
    )?;
    // Their `Debug`, in lib.rs, shows nothing.
    let secret = SECRET.map(|message| format!(".quorate.v1.{message}"));
    tonic_prost_build::configure().bytes(".").skip_debug(secret).compile_fds(files)?;
    Ok(())
}
