//! Public keys as JSON Web Keys: RFC 7518 (RSA, EC), RFC 8812 (secp256k1), RFC 8037 (Ed25519, X25519), and `AKP` for ML-DSA.
//! Only the members that make the key; who writes JSON adds the others.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64URL;
use quorate_core::key_spec::KeySpec;
use quorate_core::request::{InvalidRequest, Part};

use super::der::{self, Der};
use super::public::PublicKey;
use super::{ec, encode};

/// Names and values of a key's members.
pub type Members = Vec<(&'static str, String)>;

/// What JWK calls the kinds that have one name: `kty`, then `crv` or `alg`.
fn name(spec: KeySpec) -> Option<(&'static str, &'static str)> {
    match spec {
        KeySpec::P256 => Some(("EC", "P-256")),
        KeySpec::P384 => Some(("EC", "P-384")),
        KeySpec::P521 => Some(("EC", "P-521")),
        KeySpec::Secp256k1 => Some(("EC", "secp256k1")),
        KeySpec::Ed25519 => Some(("OKP", "Ed25519")),
        KeySpec::X25519 => Some(("OKP", "X25519")),
        KeySpec::MlDsa44 => Some(("AKP", "ML-DSA-44")),
        KeySpec::MlDsa65 => Some(("AKP", "ML-DSA-65")),
        KeySpec::MlDsa87 => Some(("AKP", "ML-DSA-87")),
        _ => None,
    }
}

impl PublicKey {
    /// As a JSON Web Key; `None` = nobody has defined one for its kind.
    pub fn jwk(&self) -> Option<Members> {
        let text = |bytes: &[u8]| BASE64URL.encode(bytes);
        let (_, key) = encode::read_spki(self.spki()).ok()?;
        let Some((kty, name)) = name(self.spec()) else {
            let mut numbers = Der::only(der::SEQUENCE, key).ok()?;
            let (n, e) = (numbers.unsigned().ok()?, numbers.unsigned().ok()?);
            return Some(vec![("kty", "RSA".into()), ("n", text(n)), ("e", text(e))]);
        };
        let mut members = vec![("kty", kty.into()), (if kty == "AKP" { "alg" } else { "crv" }, name.into())];
        match (kty, key) {
            ("EC", [4, point @ ..]) => {
                let (x, y) = point.split_at(point.len() / 2);
                members.extend([("x", text(x)), ("y", text(y))]);
            }
            ("OKP", x) => members.push(("x", text(x))),
            (_, key) => members.push(("pub", text(key))),
        }
        Some(members)
    }

    /// Reads a JSON Web Key, of which `member` gives the members.
    ///
    /// # Errors
    /// When it is none, of a kind that is not known here, or not a valid key.
    pub fn from_jwk<'a>(member: impl Fn(&str) -> Option<&'a str>) -> Result<Self, InvalidRequest> {
        let wrong = |why: String| InvalidRequest::wrong(Part::PublicKey, why);
        let text = |name| member(name).ok_or_else(|| wrong(format!("the JSON Web Key has no member {name:?}")));
        let bytes = |name| {
            BASE64URL
                .decode(text(name)?)
                .map_err(|_| wrong(format!("the member {name:?} of the JSON Web Key is not base64url without padding")))
        };
        let kty = text("kty")?;
        if kty == "RSA" {
            let numbers = [der::unsigned(&bytes("n")?), der::unsigned(&bytes("e")?)];
            let key = der::element(der::SEQUENCE, &[&numbers[0], &numbers[1]]);
            // The length is found out from the modulus.
            return Self::parse(&encode::spki(KeySpec::Rsa2048, &key));
        }
        let called = match kty {
            "AKP" => text("alg")?,
            "EC" | "OKP" => text("crv")?,
            _ => return Err(wrong("a JSON Web Key of kty \"RSA\", \"EC\", \"OKP\" or \"AKP\" was expected".into())),
        };
        // Azure's name, older than RFC 8812.
        let called = if called == "P-256K" { "secp256k1" } else { called };
        let spec = KeySpec::ALL.iter().copied().find(|spec| name(*spec) == Some((kty, called)));
        let spec = spec.ok_or_else(|| {
            wrong(format!("JSON Web Keys of kty {kty:?} and this curve or algorithm are not supported"))
        })?;
        let key = match kty {
            "EC" => {
                let (x, y) = (bytes("x")?, bytes("y")?);
                if Some((x.len(), y.len())) != ec::coordinate_len(spec).map(|len| (len, len)) {
                    return Err(wrong("x and y must be as long as the curve's coordinates".into()));
                }
                [&[4], &x[..], &y].concat()
            }
            "OKP" => bytes("x")?,
            _ => bytes("pub")?,
        };
        Self::parse(&encode::spki(spec, &key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::material::Material;
    use crate::testing::TestEntropy;

    fn read(members: &[(&str, &str)]) -> Result<PublicKey, InvalidRequest> {
        PublicKey::from_jwk(|name| members.iter().find(|(of, _)| *of == name).map(|(_, value)| *value))
    }

    #[test]
    fn every_kind_that_has_one_reads_back() {
        let mut without = Vec::new();
        for spec in KeySpec::ALL.iter().filter(|spec| !matches!(spec, KeySpec::Rsa3072 | KeySpec::Rsa4096)) {
            let Some(spki) = Material::fresh(*spec, &TestEntropy::new(3)).public else { continue };
            let key = PublicKey::parse(&spki).unwrap();
            let Some(members) = key.jwk() else {
                without.push(spec.as_str());
                continue;
            };
            let members: Vec<_> = members.iter().map(|(name, value)| (*name, &value[..])).collect();
            assert_eq!(read(&members).unwrap().spki(), spki);
            for n in 0..members.len() {
                let fewer: Vec<_> = members.iter().enumerate().filter(|(m, _)| *m != n).map(|(_, one)| *one).collect();
                assert_eq!(read(&fewer).err().map(|e| e.part()), Some(Part::PublicKey));
            }
        }
        assert_eq!(without, ["ml-kem-512", "ml-kem-768", "ml-kem-1024"]);
    }

    /// RFC 8037, appendix A.2; RFC 7517, appendix A.1.
    #[test]
    fn published_keys() {
        let x = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
        let key = read(&[("kty", "OKP"), ("crv", "Ed25519"), ("x", x)]).unwrap();
        assert_eq!((key.spec(), key.spki().len()), (KeySpec::Ed25519, 44));
        let (x, y) = ("MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4", "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM");
        assert_eq!(read(&[("kty", "EC"), ("crv", "P-256"), ("x", x), ("y", y)]).unwrap().spec(), KeySpec::P256);
        for bad in [
            [("kty", "EC"), ("crv", "P-256K"), ("x", x), ("y", y)],
            [("kty", "EC"), ("crv", "P-384"), ("x", x), ("y", y)],
            [("kty", "EC"), ("crv", "P-256"), ("x", y), ("y", x)],
            [("kty", "EC"), ("crv", "P-256"), ("x", "MKB="), ("y", y)],
            [("kty", "oct"), ("crv", "P-256"), ("x", x), ("y", y)],
        ] {
            assert_eq!(read(&bad).err().map(|e| e.part()), Some(Part::PublicKey), "{bad:?}");
        }
    }
}
