//! What the protocol's own text says of limits, which is all that a client's author reads, is what is kept.

use quorate_core::decide::PART_LEN_MAX;
use quorate_core::request::{
    DATA_KEY_LEN_DEFAULT, DATA_KEY_LEN_MAX, DELETION_DAYS_DEFAULT, DELETION_DAYS_MAX, DELETION_DAYS_MIN,
    DESCRIPTION_LEN_MAX, KEYS_PER_REQUEST_MAX, NamespaceName, PAGE_LEN_DEFAULT, PAGE_LEN_MAX, PLAINTEXT_LEN_MAX,
    RANDOM_LEN_MAX, Token,
};
use quorate_service::seal::VALID_MINUTES_DEFAULT;

#[test]
fn the_protocol_names_the_limits_that_are_kept() {
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let keys = words(include_str!("../../proto/proto/quorate/v1/keys.proto"));
    let namespaces = words(include_str!("../../proto/proto/quorate/v1/namespaces.proto"));
    let operator = words(include_str!("../../proto/proto/quorate/v1/operator.proto"));
    assert_eq!(Token::BEHIND_MS_MAX, 60 * 60 * 1000, "\"for an hour\"");
    for (text, says) in [
        (&keys, format!("string description = 2; // at most {DESCRIPTION_LEN_MAX} characters")),
        (&keys, format!("string description = 2; // of each, at most {DESCRIPTION_LEN_MAX} characters")),
        (&keys, "a retry with the same token answers the same key, for an hour".to_owned()),
        (&keys, format!("Done in batches of {PART_LEN_MAX} keys")),
        (&keys, format!("uint32 count = 1; // 1..{KEYS_PER_REQUEST_MAX}")),
        (&keys, format!("uint32 limit = 1; // 1..{PAGE_LEN_MAX}, 0 = {PAGE_LEN_DEFAULT}")),
        (&keys, format!("uint32 days = 2; // {DELETION_DAYS_MIN}..{DELETION_DAYS_MAX}, 0 = {DELETION_DAYS_DEFAULT}")),
        (&keys, format!("bytes plaintext = 2; // at most {PLAINTEXT_LEN_MAX} bytes")),
        (&keys, format!("uint32 bytes = 2; // 1..{DATA_KEY_LEN_MAX}, 0 = {DATA_KEY_LEN_DEFAULT}")),
        (&keys, format!("message GenerateRandomRequest {{ uint32 bytes = 1; }} // 1..{RANDOM_LEN_MAX}")),
        (&namespaces, format!("NAME everywhere below: 1..{} of a-z 0-9 -", NamespaceName::LEN_MAX)),
        (&namespaces, format!("uint32 limit = 1; // 1..{PAGE_LEN_MAX}, 0 = {PAGE_LEN_DEFAULT}")),
        (&operator, format!("uint32 valid_minutes = 2; }} // 0 = {VALID_MINUTES_DEFAULT}")),
    ] {
        assert!(text.contains(&says), "the protocol does not say {says:?}");
    }
}
