//! A vendor's module is foreign code in this process, and a damaged token can make it crash (SoftHSM 2.6 reads through
//! a wild pointer after one flipped byte of an object) or end the process (it calls `exit` over an exception). The process
//! can't be saved then, but it says why it ends.
//!
//! Only a crash of a thread that has prepared its last words is told this way: that is the one which calls the module.

use std::cell::Cell;
use std::ffi::c_int;
use std::mem::MaybeUninit;
use std::sync::OnceLock;

/// What a crash within foreign code ends in; C++ ends in SIGABRT what nobody catches.
const SIGNALS: [c_int; 5] = [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGABRT];

thread_local! {
    // Constant and without a destructor, so that a signal handler may read it.
    static LAST_WORDS: Cell<Option<&'static [u8]>> = const { Cell::new(None) };
}

static BEFORE: OnceLock<Vec<(c_int, libc::sigaction)>> = OnceLock::new();

/// From now on a crash of this thread ends the process with exit code 1 and these words on standard error.
#[expect(unsafe_code, reason = "signal handlers are a foreign interface")]
pub(crate) fn prepare_last_words(words: String) {
    // Once for each opened token, and the handler needs them for as long as the process lives.
    LAST_WORDS.set(Some(Box::leak(words.into_boxed_str()).as_bytes()));
    BEFORE.get_or_init(|| {
        let mut before = Vec::new();
        for signal in SIGNALS {
            // SAFETY: both structures are valid for the call, and an all-zero sigaction is a valid one to fill in. The
            // handler calls nothing but async-signal-safe functions.
            unsafe {
                let mut ours: libc::sigaction = MaybeUninit::zeroed().assume_init();
                let mut old: libc::sigaction = MaybeUninit::zeroed().assume_init();
                ours.sa_sigaction = on_crash as extern "C" fn(c_int, *mut libc::siginfo_t, *mut libc::c_void) as usize;
                // On the alternative stack that std gives every thread: it may be the stack that overflowed.
                ours.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
                if libc::sigaction(signal, &raw const ours, &raw mut old) == 0 {
                    before.push((signal, old));
                }
            }
        }
        // SAFETY: the function is there for as long as the process, and does nothing but system calls. Without room for
        // one more the exit is silent, as it would be without this.
        _ = unsafe { libc::atexit(on_exit) };
        before
    });
}

/// Runs in the thread that ends the process. Ours never do while they are in the module.
extern "C" fn on_exit() {
    tell_and_end();
}

/// Ends the process with this thread's last words, if it has prepared any. No allocation, no lock, no panic.
#[expect(unsafe_code, reason = "in a signal handler there is only the C library")]
fn tell_and_end() {
    if let Ok(Some(words)) = LAST_WORDS.try_with(Cell::get) {
        // SAFETY: the words are never freed; both calls are async-signal-safe. Nothing is to be done when it fails.
        unsafe {
            libc::write(libc::STDERR_FILENO, words.as_ptr().cast(), words.len());
            libc::_exit(1);
        }
    }
}

/// Runs in a signal handler: no allocation, no lock, no panic.
#[expect(unsafe_code, reason = "signal handlers are a foreign interface")]
extern "C" fn on_crash(signal: c_int, info: *mut libc::siginfo_t, _context: *mut libc::c_void) {
    // SAFETY: with SA_SIGINFO the kernel passes a valid structure.
    let sent = unsafe { (*info).si_code } == libc::SI_USER;
    if !sent {
        tell_and_end();
    }
    // Not the module: everything as if this handler had never been. A fault happens again on return, and is handled so;
    // a signal that somebody sent has to be sent again.
    for (_, old) in BEFORE.get().into_iter().flatten().filter(|(s, _)| *s == signal) {
        // SAFETY: the structure is the one the kernel gave.
        unsafe { libc::sigaction(signal, old, std::ptr::null_mut()) };
    }
    if sent {
        // SAFETY: no pointers; it is delivered when this handler returns.
        unsafe { libc::raise(signal) };
    }
}
