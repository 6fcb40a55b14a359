//! Keys as JSON Web Keys: RFC 7518 (RSA, EC), RFC 8812 (secp256k1), RFC 8037 (Ed25519, X25519), and `AKP` for ML-DSA.
//! Only the members that make the key; who writes JSON adds the others. Private ones and `oct` are read, never written.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64URL;
use quorate_core::id::quoted;
use quorate_core::key_spec::{KeySpec, Kind};
use quorate_core::request::{InvalidRequest, Part};
use zeroize::Zeroizing;

use super::der::{self, Der};
use super::public::PublicKey;
use super::{Encoded, Material, ec, encode, seed};
use crate::secret::SecretBytes;

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
        let jwk = Jwk { part: Part::PublicKey, member };
        let (spec, key) = jwk.public()?;
        Self::parse(&encode::spki(spec, &key))
    }
}

impl Material {
    /// As [`Self::import`], of a private key, or a symmetric one, that comes as a JSON Web Key; also says its kind.
    ///
    /// # Errors
    /// When it is none, of a kind that is not known here, lacks a member, or its members are not of one key.
    pub fn import_jwk<'a>(member: impl Fn(&str) -> Option<&'a str>) -> Result<(KeySpec, Encoded), InvalidRequest> {
        let jwk = Jwk { part: Part::Material, member };
        if jwk.text("kty")? == "oct" {
            let key = jwk.bytes("k")?;
            let spec = KeySpec::ALL
                .iter()
                .copied()
                .find(|spec| spec.kind() == Kind::Symmetric && spec.material_len() == Some(key.len()));
            let spec =
                spec.ok_or_else(|| jwk.wrong(format!("an AES key has 16, 24 or 32 bytes, not {}", key.len())))?;
            return Ok((spec, Self::import(spec, &key)?));
        }
        let (spec, public) = jwk.public()?;
        let octets = |name| Ok::<_, InvalidRequest>(der::element(der::OCTET_STRING, &[&jwk.bytes(name)?]));
        let key = match jwk.text("kty")? {
            "RSA" => {
                let numbers =
                    ["n", "e", "d", "p", "q", "dp", "dq", "qi"].map(|name| Ok(der::unsigned(&jwk.bytes(name)?)));
                let numbers = numbers.into_iter().collect::<Result<Vec<_>, InvalidRequest>>()?;
                let parts: Vec<&[u8]> = numbers.iter().map(|number| &number[..]).collect();
                der::element(der::SEQUENCE, &[&der::unsigned(&[]), &parts.concat()])
            }
            "EC" => ec::private_key(&jwk.bytes("d")?, &public),
            "OKP" => octets("d")?,
            _ => der::element(seed::SEED, &[&jwk.bytes("priv")?]),
        };
        let encoded = Self::import(spec, &encode::pkcs8(spec, &key))?;
        if encoded.public != Some(encode::spki(spec, &public)) {
            return Err(jwk.wrong("the public members of the JSON Web Key are not those of its private key".into()));
        }
        Ok((spec, encoded))
    }
}

/// A JSON Web Key that is read, which is that part of the request.
struct Jwk<F> {
    part: Part,
    member: F,
}

impl<'a, F: Fn(&str) -> Option<&'a str>> Jwk<F> {
    fn wrong(&self, why: String) -> InvalidRequest {
        InvalidRequest::wrong(self.part, why)
    }
    fn text(&self, name: &str) -> Result<&'a str, InvalidRequest> {
        (self.member)(name).ok_or_else(|| self.wrong(format!("the JSON Web Key has no member {name:?}")))
    }
    fn bytes(&self, name: &str) -> Result<SecretBytes, InvalidRequest> {
        let bytes = BASE64URL.decode(self.text(name)?).map(Zeroizing::new);
        bytes.map_err(|_| {
            self.wrong(format!("the member {name:?} of the JSON Web Key is not base64url without padding"))
        })
    }

    /// The kind, and the public key as its kind encodes it.
    fn public(&self) -> Result<(KeySpec, SecretBytes), InvalidRequest> {
        let kty = self.text("kty")?;
        if kty == "RSA" {
            let (n, e) = (self.bytes("n")?, self.bytes("e")?);
            let key = der::element(der::SEQUENCE, &[&der::unsigned(&n), &der::unsigned(&e)]);
            // Any other length is refused when it is looked at.
            let spec = match n.len() {
                512 => KeySpec::Rsa4096,
                384 => KeySpec::Rsa3072,
                _ => KeySpec::Rsa2048,
            };
            return Ok((spec, key));
        }
        let called = match kty {
            "AKP" => self.text("alg")?,
            "EC" | "OKP" => self.text("crv")?,
            _ => {
                return Err(self.wrong("a JSON Web Key of kty \"RSA\", \"EC\", \"OKP\" or \"AKP\" was expected".into()));
            }
        };
        // Azure's name, older than RFC 8812.
        let called = if called == "P-256K" { "secp256k1" } else { called };
        let spec = KeySpec::ALL.iter().copied().find(|spec| name(*spec) == Some((kty, called)));
        let spec = spec.ok_or_else(|| {
            self.wrong(format!("JSON Web Keys of kty {} and this curve or algorithm are not supported", quoted(kty)))
        })?;
        let key = match kty {
            "EC" => {
                let (x, y) = (self.bytes("x")?, self.bytes("y")?);
                if Some((x.len(), y.len())) != ec::coordinate_len(spec).map(|len| (len, len)) {
                    return Err(self.wrong("x and y must be as long as the curve's coordinates".into()));
                }
                Zeroizing::new([&[4], &x[..], &y].concat())
            }
            "OKP" => self.bytes("x")?,
            _ => self.bytes("pub")?,
        };
        Ok((spec, key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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

    fn read_private(members: &[(&str, &str)]) -> Result<(KeySpec, Encoded), InvalidRequest> {
        Material::import_jwk(|name| members.iter().find(|(of, _)| *of == name).map(|(_, value)| *value))
    }

    /// RFC 7517, appendix A.2 and A.3; RFC 8037, appendix A.1.
    #[test]
    fn published_private_keys() {
        let (x, y) = ("MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4", "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM");
        let ec =
            [("kty", "EC"), ("crv", "P-256"), ("x", x), ("y", y), ("d", "870MB6gfuTJ4HtUnUvYMyJpr5eUZNP4Bk43bVdj3eAE")];
        let okp = [
            ("kty", "OKP"),
            ("crv", "Ed25519"),
            ("x", "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"),
            ("d", "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A"),
        ];
        for members in [&ec[..], &okp] {
            let public = read_private(members).unwrap().1.public;
            assert_eq!(Some(read(members).unwrap().spki()), public.as_deref());
            for n in 0..members.len() {
                let fewer: Vec<_> = members.iter().enumerate().filter(|(m, _)| *m != n).map(|(_, one)| *one).collect();
                assert_eq!(read_private(&fewer).err().map(|e| e.part()), Some(Part::Material));
            }
        }
        // Numbers that do not make the public key beside them.
        let (mut other_ec, mut other_okp) = (ec, okp);
        other_ec[4].1 = "870MB6gfuTJ4HtUnUvYMyJpr5eUZNP4Bk43bVdj3eAA";
        other_okp[3].1 = "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf1A";
        for members in [&other_ec[..], &other_okp] {
            assert_eq!(read_private(members).err().map(|e| e.part()), Some(Part::Material));
        }
        let (spec, key) = read_private(&[("kty", "oct"), ("k", "GawgguFyGrWKav7AX4VKUg")]).unwrap();
        assert_eq!((spec, key.material.len()), (KeySpec::Aes128, 16));
        assert_eq!(read_private(&[("kty", "oct"), ("k", "Gawg")]).err().map(|e| e.part()), Some(Part::Material));
    }

    #[test]
    fn rsa_and_ml_dsa_keys_come_whole() {
        let text = |bytes: &[u8]| BASE64URL.encode(bytes);
        let rsa = Material::fresh(KeySpec::Rsa2048, &TestEntropy::new(5));
        let mut numbers =
            Der::only(der::SEQUENCE, encode::read_pkcs8(KeySpec::Rsa2048, &rsa.material).unwrap()).unwrap();
        assert_eq!(numbers.unsigned(), Ok(&[][..]));
        let values = ["n", "e", "d", "p", "q", "dp", "dq", "qi"].map(|name| (name, text(numbers.unsigned().unwrap())));
        let mut members: Vec<_> = values.iter().map(|(name, value)| (*name, &value[..])).collect();
        members.push(("kty", "RSA"));
        let (spec, key) = read_private(&members).unwrap();
        assert_eq!((spec, key.material), (KeySpec::Rsa2048, rsa.material));
        let ml_dsa = Material::fresh(KeySpec::MlDsa44, &TestEntropy::new(5));
        let public = PublicKey::parse(ml_dsa.public.as_ref().unwrap()).unwrap().jwk().unwrap();
        let seed = text(&encode::read_pkcs8(KeySpec::MlDsa44, &ml_dsa.material).unwrap()[2..]);
        let mut members: Vec<_> = public.iter().map(|(name, value)| (*name, &value[..])).collect();
        members.push(("priv", &seed));
        let (spec, key) = read_private(&members).unwrap();
        assert_eq!((spec, key.material), (KeySpec::MlDsa44, ml_dsa.material));
    }
}
