//! A global allocator that wipes what it frees: the only way to clear the copies that gRPC, TLS, JSON and the splitter
//! make of secrets in passing (key-hierarchy §8). Costs a write of each freed byte.

#![allow(unsafe_code)] // A global allocator is an unsafe interface; this one adds nothing but the wiping.

use std::alloc::{GlobalAlloc, Layout, System};

/// The system's allocator, with memory zeroed before it goes back.
pub struct ZeroOnFree;

// SAFETY: every call is passed on to `System` with the caller's own arguments; memory is only written while it is
// still allocated, within the size it was allocated with.
unsafe impl GlobalAlloc for ZeroOnFree {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are `System`'s conditions.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: `ptr` is a live allocation of `layout.size()` bytes, which nobody else uses any more.
        unsafe {
            ptr.write_bytes(0, layout.size());
            // Without this the compiler may drop a write to memory that is about to be freed.
            zeroize::optimization_barrier(&*ptr);
            System.dealloc(ptr, layout);
        }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // `System.realloc` may move the block and free the old one unwiped: move it here instead.
        // SAFETY: `new_size` is not zero and does not overflow when rounded up (the caller's promise); both blocks are
        // live, distinct, and at least as long as what is copied.
        unsafe {
            let new = System.alloc(Layout::from_size_align_unchecked(new_size, layout.align()));
            if !new.is_null() {
                std::ptr::copy_nonoverlapping(ptr, new, layout.size().min(new_size));
                self.dealloc(ptr, layout);
            }
            new
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contents_survive_growing_and_shrinking() {
        let mut v: Vec<u8> = Vec::with_capacity(3);
        for i in 0..10_000u32 {
            v.extend_from_slice(&i.to_be_bytes());
        }
        v.truncate(4096);
        v.shrink_to_fit();
        assert!(v.chunks(4).enumerate().all(|(i, c)| c == (i as u32).to_be_bytes()));
    }

    #[test]
    fn freed_memory_is_zero() {
        let layout = Layout::from_size_align(4096, 16).unwrap();
        // SAFETY: the second block is read only as far as it was allocated. Whether it is the same memory is up to the
        // system's allocator; when it is, nothing of the first may be left beyond the allocator's own list pointers.
        unsafe {
            let a = ZeroOnFree.alloc(layout);
            a.write_bytes(0xA5, 4096);
            ZeroOnFree.dealloc(a, layout);
            let b = System.alloc(layout);
            if a == b {
                assert!(!std::slice::from_raw_parts(b, 4096).contains(&0xA5));
            }
            System.dealloc(b, layout);
        }
    }

    #[test]
    fn a_moved_block_keeps_its_bytes_and_a_shrunk_one_its_first() {
        let old = Layout::from_size_align(64, 16).unwrap();
        // SAFETY: plain use of the allocator: every block is used within its size and freed once.
        unsafe {
            let a = ZeroOnFree.alloc(old);
            a.write_bytes(7, 64);
            let b = ZeroOnFree.realloc(a, old, 4096);
            assert!(std::slice::from_raw_parts(b, 64).iter().all(|x| *x == 7));
            assert_eq!(b as usize % 16, 0);
            let c = ZeroOnFree.realloc(b, Layout::from_size_align(4096, 16).unwrap(), 8);
            assert!(std::slice::from_raw_parts(c, 8).iter().all(|x| *x == 7));
            ZeroOnFree.dealloc(c, Layout::from_size_align(8, 16).unwrap());
        }
    }
}
