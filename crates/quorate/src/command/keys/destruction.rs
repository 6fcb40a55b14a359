//! `quorate keys destruction`: what each node states of a destruction, signed by its HSM.

use clap::Args;
use futures::future::join_all;
use quorate_client::reason;
use quorate_client::v1::GetDestructionRequest;
use quorate_core::evidence::DestructionStatement;
use quorate_core::id::NodeId;

use crate::command::crypt::Out;
use crate::command::failure::{CommandResult, Failure};
use crate::command::{Shared, evidence, output};
use crate::evidence::{Evidence, Piece};

#[derive(Args, Debug)]
pub(super) struct Destruction {
    /// The id of the key, or secret: what is destroyed has no name any more
    #[arg(value_name = "KEY_ID")]
    key_id: String,
    /// The version that was destroyed by itself [default: the key as a whole]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    version: Option<u32>,
    #[command(flatten)]
    out: Out,
}

/// An address, and what came from there.
type Answer = (String, Result<Piece, quorate_client::ClientError>);

impl Destruction {
    /// Asks every address, since each node speaks for itself alone; what one says is checked before it is kept.
    pub(super) async fn run(self, shared: &Shared) -> CommandResult {
        const WHAT: &str = "prove the destruction";
        let root_pem = shared.connection().config()?.ca_pem;
        let answers = self.ask(shared).await?;
        let (mut evidence, mut nodes, mut failures) =
            (Evidence { pieces: Vec::new() }, Vec::<NodeId>::new(), Vec::new());
        for (address, answer) in answers {
            match answer {
                // Two addresses may be one node's.
                Ok(piece) => match DestructionStatement::decode(&piece.statement) {
                    Ok(said) if nodes.contains(&said.node) => {}
                    Ok(said) => {
                        nodes.push(said.node);
                        evidence.pieces.push(piece);
                    }
                    Err(e) => return Err(Failure::failed(format!("can't {WHAT}"), format!("{address}: {e}"), "")),
                },
                Err(error) => failures.push((address, error)),
            }
        }
        if evidence.pieces.is_empty() {
            // That nothing is known is an answer; that a node can't be reached is none.
            let told = failures.iter().position(|(_, error)| !error.is(reason::UNREACHABLE)).unwrap_or(0);
            return Err(Failure::call(WHAT, failures.swap_remove(told).1));
        }
        if shared.asked_for_programs().is_none() {
            for (address, error) in &failures {
                eprintln!("warning: no statement from {address}: {}", error.message);
            }
        }
        let verified =
            evidence.verify(&root_pem).map_err(|flaw| evidence::not_believed("what the nodes say", &flaw))?;
        match self.out.path() {
            Some(path) => {
                evidence::write(&self.out, path, &evidence)?;
                evidence::print(shared, &verified)
            }
            // A pipe, and whoever asks for JSON, gets what is signed: that is what is worth keeping.
            None if shared.format().for_programs() => output::line(&evidence.to_json().to_string()),
            None => evidence::print(shared, &verified),
        }
    }

    async fn ask(&self, shared: &Shared) -> CommandResult<Vec<Answer>> {
        let client = shared.client().await?;
        let addresses: Vec<String> = client.addresses().map(str::to_owned).collect();
        let request = GetDestructionRequest { key_id: self.key_id.clone(), version: self.version.unwrap_or(0) };
        let asks = addresses.into_iter().enumerate().filter_map(|(place, address)| {
            let (node, request) = (client.node(place)?, request.clone());
            Some(async move { (address, node.get_destruction(request).await.map(Piece::from)) })
        });
        Ok(join_all(asks).await)
    }
}
