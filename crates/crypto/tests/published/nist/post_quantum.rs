use quorate_core::key_spec::{Algorithm, KeySpec};
use quorate_crypto::material::{Material, SignInput};

use super::{Case, bytes, cases};
use crate::{der, pkcs8, spki};

/// The key of a seed; the expanded key beside it is compared when it is imported.
fn of_seed(case: &Case, spec: KeySpec, seed: &[u8]) -> Material {
    let both = der(0x30, &[&der(4, &[seed]), &der(4, &[&bytes(case, "sk")])]);
    let kept = Material::import(spec, &pkcs8(spec, &both)).unwrap().material;
    assert_eq!(kept[..], pkcs8(spec, &der(0x80, &[seed])));
    let material = Material::read(spec, &kept).unwrap();
    assert_eq!(material.public().unwrap().spki(), spki(spec, &bytes(case, "pk")));
    material
}

#[test]
fn ml_dsa() {
    let mut ran = 0;
    for (bits, spec) in [(44, KeySpec::MlDsa44), (65, KeySpec::MlDsa65), (87, KeySpec::MlDsa87)] {
        for case in cases(&format!("asymmetric/MLDSA/kat_MLDSA_{bits}_det_pure.rsp"), &["ctx"]) {
            let material = of_seed(&case, spec, &bytes(&case, "xi"));
            let (message, context, signed) = (bytes(&case, "msg"), bytes(&case, "ctx"), bytes(&case, "sm"));
            let signature = signed.strip_suffix(&message[..]).unwrap();
            let (public, input) = (material.public().unwrap(), SignInput::Message(&message));
            assert_eq!(public.verify(Algorithm::MlDsa, input, signature, &context), Ok(true));
            let made = material.sign(Algorithm::MlDsa, input, &context).unwrap();
            assert_eq!(public.verify(Algorithm::MlDsa, input, &made, &context), Ok(true));
            assert_eq!(public.verify(Algorithm::MlDsa, input, &made, b"another"), Ok(false));
            ran += 1;
        }
    }
    assert_eq!(ran, 300);
}

#[test]
fn ml_kem() {
    let mut ran = 0;
    for (size, spec) in [(512, KeySpec::MlKem512), (768, KeySpec::MlKem768), (1024, KeySpec::MlKem1024)] {
        for case in cases(&format!("asymmetric/MLKEM/kat_MLKEM_{size}.rsp"), &["ss"]) {
            let material = of_seed(&case, spec, &[bytes(&case, "d"), bytes(&case, "z")].concat());
            // A ciphertext, and one that nobody made.
            for (ciphertext, secret) in [("ct", "ss"), ("ct_n", "ss_n")] {
                assert_eq!(material.decapsulate(&bytes(&case, ciphertext)).unwrap()[..], bytes(&case, secret));
            }
            ran += 1;
        }
    }
    assert_eq!(ran, 3000);
}
