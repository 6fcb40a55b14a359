//! What a function of a library leaves of secrets on the stack: overwritten before anybody else runs there.
//!
//! A hash's state is its input's last block and its key. Where the library gives no hand on it, whoever reads the process's memory
//! after the keys are gone would find key names and keys of hashes in the stack of a thread that sleeps.

use std::hint::black_box;

/// More than a BLAKE3 hash of a name or a request takes of the stack, in machine words: 16 KiB.
pub const HASH_LEN: usize = 16 * 1024 / size_of::<usize>();

/// Runs `f`, and zeroes `N` machine words of the stack that it ran on: more than it uses.
pub fn scrubbed<const N: usize, T>(f: impl FnOnce() -> T) -> T {
    let out = below(f);
    scrub::<N>();
    out
}

/// Keeps `f`'s frames below the caller's, where those of [`scrub`] will lie.
#[inline(never)]
fn below<T>(f: impl FnOnce() -> T) -> T {
    f()
}

#[inline(never)]
fn scrub<const N: usize>() {
    // Filled once, as fast as memory is set: whoever may look at it, as far as the compiler knows, has to find it written.
    let room = [0usize; N];
    black_box(&room);
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test looks at this process's own memory")]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::FileExt;

    use super::*;

    const LEN: usize = 64 * 1024;

    /// Whether `needle` stands in the stack below the caller's frame.
    #[inline(never)]
    fn is_left(memory: &File, seen: &mut [u8], needle: &[u8]) -> bool {
        let here = 0u8;
        let from = (&raw const here).addr() - seen.len();
        memory.read_exact_at(seen, from as u64).expect("its own memory");
        seen.windows(needle.len()).any(|bytes| bytes == needle)
    }

    /// Runs `f` so deep that looking for what it leaves does not write over it.
    #[inline(never)]
    fn deep<T>(f: impl FnOnce() -> T) -> T {
        let room = [0u8; LEN / 2];
        black_box(&room);
        let out = f();
        black_box(&room);
        out
    }

    #[test]
    fn what_a_hash_took_in_is_not_left_on_the_stack() {
        let memory = File::open("/proc/self/mem").expect("Linux");
        let mut seen = vec![0; LEN];
        // On the heap, and in no constant: found where the hash has put it, and nowhere else.
        let name = |n: u8| (0..20).map(|i| b'a' + (i * 7 + n) % 26).collect::<Vec<u8>>();
        let known = [7; 32];
        scrub::<{ LEN / size_of::<usize>() }>();
        let plain = name(0);
        black_box(deep(|| blake3::keyed_hash(&known, &plain)));
        assert!(is_left(&memory, &mut seen, &plain), "else this test sees nothing");
        // Names, and requests longer than one chunk of the hash, of which more is kept on the way.
        for (n, before) in [0, 9, 60, 500, 1500, 3000].into_iter().enumerate() {
            let kept = name(n as u8 + 1);
            let input = [vec![b'-'; before], kept.clone(), vec![b'-'; before]].concat();
            scrub::<{ LEN / size_of::<usize>() }>();
            black_box(deep(|| scrubbed::<HASH_LEN, _>(|| blake3::keyed_hash(&known, &input))));
            assert!(!is_left(&memory, &mut seen, &kept), "{before}");
            black_box(deep(|| scrubbed::<HASH_LEN, _>(|| blake3::derive_key("of this test", &input))));
            assert!(!is_left(&memory, &mut seen, &kept), "{before}");
        }
    }
}
