//! The processes of a machine and the sockets that they listen on. Source: the Machines API's
//! `GET …/machines/{id}/ps` (docs.machines.dev, "List Processes"), which flyctl reads after an update
//! to warn that "the app is not listening on the expected address".

use super::call::Endpoint;
use super::error::Result;
use super::token::Surface::Machines;
use super::wire::{Items, wire};
use crate::fly::call::client::Client;

wire! {
    /// A process in a machine.
    pub struct Process {
        /// Its command line. Foreign text that may hold secrets: never shown.
        pub command: Option<String>,
        /// The sockets that it listens on.
        pub listen_sockets: Items<ListenSocket>,
    }

    /// A socket that a process listens on.
    pub struct ListenSocket {
        /// `tcp`, `udp`, also with the IP version.
        pub proto: Option<String>,
        /// Address and port: `0.0.0.0:8080`, `[::]:8080`.
        pub address: Option<String>,
    }
}

const PROCESSES: Endpoint = Endpoint::read(Machines, "GET /v1/apps/{app}/machines/{id}/ps").once();

impl Client {
    /// The processes of a started machine.
    ///
    /// # Errors
    /// When Fly.io does not answer, or the machine is not started.
    pub async fn processes(&self, app: &str, id: &str) -> Result<Vec<Process>> {
        let found: Items<Process> = self.call(&PROCESSES, &[app, id]).read().await?;
        Ok(found.0)
    }
}
