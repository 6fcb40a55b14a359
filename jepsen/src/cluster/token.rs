//! A node's token, in the harness's hands: a PKCS#11 module between the node and SoftHSM that does what a file says.

use std::path::{Path, PathBuf};

use anyhow::Context;
use jepsen_pkcs11_forwarder::order::{Order, account};
use jepsen_pkcs11_forwarder::{MODULE, ORDERS};
use serde_json::{Map, Value};

/// The forwarder's file name, as cargo builds it.
const FORWARDER: &str = "libjepsen_pkcs11_forwarder.so";

/// The forwarder, beside this program.
///
/// # Errors
/// It is not built.
pub fn forwarder() -> anyhow::Result<PathBuf> {
    let program = std::env::current_exe()?;
    let beside = program.with_file_name(FORWARDER);
    // A test's program lies one folder deeper.
    let above = program.parent().and_then(Path::parent).map(|dir| dir.join(FORWARDER));
    // Built as a dependency of this program alone, it lies among the others.
    let deps = program.with_file_name("deps").join(FORWARDER);
    let found = [Some(beside.clone()), above, Some(deps)].into_iter().flatten().find(|p| p.exists());
    found.with_context(|| format!("{} is not built; cargo build --workspace", beside.display()))
}

/// The token of one node.
pub struct Token {
    orders: PathBuf,
}

impl Token {
    /// Of a node whose folder is `dir`; working.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn new(dir: &Path) -> anyhow::Result<Self> {
        let token = Self { orders: orders(dir) };
        token.order(Order::None)?;
        Ok(token)
    }

    /// What is done from now on to the calls that use its keys.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn order(&self, order: Order) -> anyhow::Result<()> {
        let new = self.orders.with_extension("new");
        let written = std::fs::write(&new, order.words()).and_then(|()| std::fs::rename(&new, &self.orders));
        written.with_context(|| self.orders.display().to_string())
    }

    /// To how many calls something was done so far.
    pub fn count(&self) -> usize {
        std::fs::read_to_string(account(&self.orders)).map_or(0, |text| text.lines().count())
    }
}

fn orders(dir: &Path) -> PathBuf {
    dir.join("token-orders")
}

/// What a node's module must find in its environment besides.
pub fn environment(dir: &Path, module: &Path) -> Map<String, Value> {
    let pairs = [(MODULE, module.to_owned()), (ORDERS, orders(dir))];
    pairs.into_iter().map(|(name, path)| (name.to_owned(), path.display().to_string().into())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_written_and_deeds_counted() {
        let dir = tempfile::tempdir().unwrap();
        let token = Token::new(dir.path()).unwrap();
        let read = || Order::parse(&std::fs::read_to_string(orders(dir.path())).unwrap());
        assert_eq!((read(), token.count()), (Order::None, 0));
        token.order(Order::Hang).unwrap();
        assert_eq!(read(), Order::Hang);
        std::fs::write(account(&orders(dir.path())), "C_Sign hang\nC_Sign hang\n").unwrap();
        assert_eq!(token.count(), 2);
        let environment = environment(dir.path(), Path::new("/lib/x.so"));
        assert_eq!(environment[MODULE], "/lib/x.so");
    }
}
