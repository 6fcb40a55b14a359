use quorate_crypto::material::digest::digest;

use super::{bytes, cases, curve, public, text};
use crate::{Tally, of_curve};

#[test]
fn ecdh() {
    let mut tally = Tally::default();
    for role in ["init", "resp"] {
        let file = format!("asymmetric/ECDH/KASValidityTest_ECCStaticUnified_NOKC_ZZOnly_{role}.fax");
        for case in cases(&file, &["Result"]) {
            // "EC - SHA256": the parameter set, and the hash function for the comparison.
            let (set, hash) = text(&case, "section").split_once(" - ").unwrap();
            let Some(spec) = curve(["P-192", "P-224", "P-256", "P-384", "P-521"][(set.as_bytes()[1] - b'A') as usize])
            else {
                tally.skip("curves that are not offered");
                continue;
            };
            let [qx, qy, own_x, own_y] = ["QsCAVSx", "QsCAVSy", "QsIUTx", "QsIUTy"].map(|name| bytes(&case, name));
            let own = of_curve(spec, &bytes(&case, "dsIUT"));
            let (own, claimed, peer) = (own, public(spec, &own_x, &own_y), public(spec, &qx, &qy));
            // A case is also wrong when the private number does not make the public key beside it.
            let shared = own.zip(claimed).zip(peer).and_then(|((own, claimed), peer)| {
                if own.public()?.spki() == claimed.spki() { own.agree(&peer).ok() } else { None }
            });
            let hash = hash.to_lowercase().parse().unwrap();
            let worked = shared.is_some_and(|shared| digest(hash, &shared) == bytes(&case, "CAVSHashZZ"));
            assert_eq!(worked, text(&case, "Result").starts_with('P'), "{case:?}");
            tally.ran += 1;
        }
    }
    tally.done(180, &[("curves that are not offered", 120)]);
}
