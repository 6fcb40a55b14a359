use super::*;
use crate::testing::TestEntropy;

#[test]
fn fresh_material_reads_back_and_nothing_else_does() {
    for spec in KeySpec::ALL {
        let fresh = Material::fresh(*spec, &TestEntropy::new(1));
        let read = Material::read(*spec, &fresh.material).unwrap();
        assert_eq!(read.public().map(PublicKey::spki), fresh.public.as_deref(), "{spec:?}");
        assert!(read.public().is_none_or(|public| public.spec() == *spec));
        let bytes = &fresh.material[..];
        assert!(Material::read(*spec, &bytes[..13]).is_none() && Material::read(*spec, &[]).is_none());
        if !spec.as_str().starts_with("rsa") {
            assert_ne!(Material::fresh(*spec, &TestEntropy::new(2)).material, fresh.material);
        }
        // What was imported is kept as what was made.
        assert_eq!(Material::import(*spec, bytes).unwrap().material, fresh.material);
    }
}
