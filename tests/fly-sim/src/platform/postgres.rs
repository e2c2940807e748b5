//! Databases on a real PostgreSQL server, one namespace for each cluster.
//!
//! Starting a server for each cluster would cost a second and 30 MB each. So all clusters share
//! one, and every role and database has its cluster's prefix there; `pgproxy` adds the prefix when
//! a client connects. What a client sees of that: `current_user` and `current_database()` have it.

use std::net::SocketAddr;
use std::path::Path;

use kube_env::postgres::Postgres;
use tokio::sync::OnceCell;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config, NoTls};

/// Longest name that fits beside a prefix. PostgreSQL cuts names after 63 bytes.
const LONGEST: usize = 63 - 12;

/// What a database server refuses.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// PostgreSQL could not be started.
    #[error("start PostgreSQL for the simulated databases")]
    Start(#[source] kube_env::Error),
    /// The given connection string is none.
    #[error("read the connection string of the PostgreSQL server given to the simulator")]
    Address,
    /// SQL that failed.
    #[error("{doing}: {}", sql_text(.source))]
    Sql {
        /// What was being done.
        doing: String,
        /// Why.
        #[source]
        source: tokio_postgres::Error,
    },
    /// A name that cannot be one.
    #[error("'{0}' is no valid name: 1 to 51 letters, digits, dashes and underscores")]
    Name(String),
}

fn sql_text(error: &tokio_postgres::Error) -> String {
    error
        .as_db_error()
        .map_or_else(|| error.to_string(), |db| db.message().to_owned())
}

impl DatabaseError {
    fn sql(doing: impl Into<String>) -> impl FnOnce(tokio_postgres::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Sql { doing, source }
    }

    /// Whether the object exists already.
    pub fn exists(&self) -> bool {
        let Self::Sql { source, .. } = self else {
            return false;
        };
        matches!(
            source.code(),
            Some(&SqlState::DUPLICATE_OBJECT | &SqlState::DUPLICATE_DATABASE)
                | Some(&SqlState::UNIQUE_VIOLATION)
        )
    }
}

type Result<T> = std::result::Result<T, DatabaseError>;

/// What a user may do in the databases of its cluster. Source: Managed Postgres.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// Everything, also changing the schema.
    SchemaAdmin,
    /// Reading and writing rows.
    Writer,
    /// Reading rows.
    Reader,
    /// A superuser, as the users of legacy Fly Postgres are by default.
    Superuser,
}

impl Right {
    /// By the word of the API.
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "schema_admin" => Some(Self::SchemaAdmin),
            "writer" => Some(Self::Writer),
            "reader" => Some(Self::Reader),
            _ => None,
        }
    }

    /// The word of the API.
    pub fn word(self) -> &'static str {
        match self {
            Self::SchemaAdmin => "schema_admin",
            Self::Writer => "writer",
            Self::Reader => "reader",
            Self::Superuser => "superuser",
        }
    }
}

#[derive(Debug)]
struct Server {
    config: Config,
    address: SocketAddr,
    _process: Option<Postgres>,
}

/// The server behind all simulated databases; started when first needed.
#[derive(Debug, Default)]
pub struct Backend {
    server: OnceCell<Server>,
    /// PostgreSQL refuses two changes of one object's rights at a time, and a new database and a
    /// new user each give the other its rights.
    changes: tokio::sync::Mutex<()>,
}

impl Backend {
    async fn server(&self, dir: &Path, given: Option<&str>) -> Result<&Server> {
        let start = async || {
            let (process, url) = match given {
                Some(url) => (None, url.to_owned()),
                None => {
                    let process = Postgres::start(dir).await.map_err(DatabaseError::Start)?;
                    let url = process.url();
                    (Some(process), url)
                }
            };
            let config: Config = url.parse().map_err(|_| DatabaseError::Address)?;
            let address = match (config.get_hosts().first(), config.get_ports().first()) {
                (Some(tokio_postgres::config::Host::Tcp(host)), port) => {
                    let port = port.copied().unwrap_or(5432);
                    tokio::net::lookup_host((host.as_str(), port))
                        .await
                        .ok()
                        .and_then(|mut found| found.next())
                        .ok_or(DatabaseError::Address)?
                }
                _ => return Err(DatabaseError::Address),
            };
            Ok(Server {
                config,
                address,
                _process: process,
            })
        };
        self.server.get_or_try_init(start).await
    }

    /// Starts the server if it does not run; `given` is the connection string of a superuser of
    /// one that runs already. Returns where it listens.
    pub async fn start(&self, dir: &Path, given: Option<&str>) -> Result<SocketAddr> {
        self.server(dir, given).await.map(|server| server.address)
    }

    /// Whether there is anything to clean up.
    pub fn is_started(&self) -> bool {
        self.server.initialized()
    }

    async fn connect(&self, database: Option<&str>) -> Result<Client> {
        let server = self.server.get().ok_or(DatabaseError::Address)?;
        let mut config = server.config.clone();
        if let Some(database) = database {
            config.dbname(database);
        }
        let (client, connection) = config
            .connect(NoTls)
            .await
            .map_err(DatabaseError::sql("connect to the database server"))?;
        // Ends when the client is dropped.
        tokio::spawn(async move {
            let _ = connection.await;
        });
        Ok(client)
    }

    async fn run(&self, doing: String, sql: String) -> Result<()> {
        let client = self.connect(None).await?;
        client
            .batch_execute(&sql)
            .await
            .map_err(DatabaseError::sql(doing))
    }

    /// Prepares a namespace; done before is fine.
    pub async fn create_namespace(&self, prefix: &str) -> Result<()> {
        let owner = owner(prefix);
        match self
            .run(
                "create the owner role".to_owned(),
                format!("CREATE ROLE {owner} NOLOGIN"),
            )
            .await
        {
            Err(error) if !error.exists() => Err(error),
            _ => Ok(()),
        }
    }

    /// Drops every database and role of a namespace.
    pub async fn drop_namespace(&self, prefix: &str) -> Result<()> {
        for database in self.databases(prefix).await? {
            self.drop_database(prefix, &database).await?;
        }
        for user in self.users(prefix).await? {
            self.drop_user(prefix, &user).await?;
        }
        self.run(
            "drop the owner role".to_owned(),
            format!("DROP ROLE IF EXISTS {}", owner(prefix)),
        )
        .await
    }

    /// Names of the databases of a namespace.
    pub async fn databases(&self, prefix: &str) -> Result<Vec<String>> {
        self.names(
            prefix,
            "SELECT datname FROM pg_database WHERE starts_with(datname, $1) ORDER BY 1",
        )
        .await
    }

    /// Names of the users of a namespace.
    pub async fn users(&self, prefix: &str) -> Result<Vec<String>> {
        self.names(
            prefix,
            "SELECT rolname FROM pg_roles WHERE starts_with(rolname, $1) AND rolcanlogin ORDER BY 1",
        )
        .await
    }

    async fn names(&self, prefix: &str, sql: &str) -> Result<Vec<String>> {
        let client = self.connect(None).await?;
        let rows = client
            .query(sql, &[&prefix])
            .await
            .map_err(DatabaseError::sql("list names"))?;
        Ok(rows
            .iter()
            .filter_map(|row| {
                row.get::<_, &str>(0)
                    .strip_prefix(prefix)
                    .map(str::to_owned)
            })
            .collect())
    }

    /// Creates a database, owned by the namespace.
    pub async fn create_database(&self, prefix: &str, name: &str) -> Result<()> {
        let _one_at_a_time = self.changes.lock().await;
        let database = quoted(prefix, name)?;
        // A database cannot be created inside a transaction: one statement for each call.
        self.run(
            format!("create the database {name}"),
            format!("CREATE DATABASE {database} OWNER {}", owner(prefix)),
        )
        .await?;
        self.run(
            format!("close the database {name} to others"),
            format!("REVOKE ALL ON DATABASE {database} FROM PUBLIC"),
        )
        .await?;
        for user in self.users(prefix).await? {
            self.grant_connect(prefix, name, &user).await?;
        }
        Ok(())
    }

    async fn grant_connect(&self, prefix: &str, database: &str, user: &str) -> Result<()> {
        self.run(
            format!("let {user} connect to {database}"),
            format!(
                "GRANT CONNECT, TEMPORARY ON DATABASE {} TO {}",
                quoted(prefix, database)?,
                quoted(prefix, user)?
            ),
        )
        .await
    }

    /// Drops a database and ends its sessions.
    pub async fn drop_database(&self, prefix: &str, name: &str) -> Result<()> {
        let _one_at_a_time = self.changes.lock().await;
        self.run(
            format!("drop the database {name}"),
            format!("DROP DATABASE {} WITH (FORCE)", quoted(prefix, name)?),
        )
        .await
    }

    /// Creates a user.
    pub async fn create_user(
        &self,
        prefix: &str,
        name: &str,
        password: &str,
        right: Right,
    ) -> Result<()> {
        let role = quoted(prefix, name)?;
        let _one_at_a_time = self.changes.lock().await;
        self.run(
            format!("create the user {name}"),
            format!("CREATE ROLE {role} LOGIN PASSWORD {}", literal(password)),
        )
        .await?;
        self.set_right(prefix, name, right).await?;
        for database in self.databases(prefix).await? {
            self.grant_connect(prefix, &database, name).await?;
        }
        Ok(())
    }

    /// Changes what a user may do.
    pub async fn set_right(&self, prefix: &str, name: &str, right: Right) -> Result<()> {
        let (role, owner) = (quoted(prefix, name)?, owner(prefix));
        let grant = match right {
            Right::SchemaAdmin => {
                format!("GRANT {owner}, pg_read_all_data, pg_write_all_data TO {role}")
            }
            Right::Writer => format!("GRANT pg_read_all_data, pg_write_all_data TO {role}"),
            Right::Reader => format!("GRANT pg_read_all_data TO {role}"),
            Right::Superuser => format!("ALTER ROLE {role} SUPERUSER"),
        };
        self.run(
            format!("set the rights of {name}"),
            format!(
                "REVOKE {owner}, pg_read_all_data, pg_write_all_data FROM {role}; \
                 ALTER ROLE {role} NOSUPERUSER; {grant}"
            ),
        )
        .await
    }

    /// Changes a password.
    pub async fn set_password(&self, prefix: &str, name: &str, password: &str) -> Result<()> {
        self.run(
            format!("set the password of {name}"),
            format!(
                "ALTER ROLE {} PASSWORD {}",
                quoted(prefix, name)?,
                literal(password)
            ),
        )
        .await
    }

    /// Drops a user; what it owns goes to the namespace.
    pub async fn drop_user(&self, prefix: &str, name: &str) -> Result<()> {
        let (role, owner) = (quoted(prefix, name)?, owner(prefix));
        for database in self.databases(prefix).await? {
            let client = self.connect(Some(&format!("{prefix}{database}"))).await?;
            client
                .batch_execute(&format!(
                    "REASSIGN OWNED BY {role} TO {owner}; DROP OWNED BY {role}"
                ))
                .await
                .map_err(DatabaseError::sql(format!("take over what {name} owns")))?;
        }
        // Also outside the databases of the namespace, where it may own or have been granted.
        self.run(
            format!("drop the user {name}"),
            format!("DROP OWNED BY {role}; DROP ROLE {role}"),
        )
        .await
    }
}

/// The role that owns the databases of a namespace; no user can have a slash in its name.
fn owner(prefix: &str) -> String {
    format!("\"{prefix}/owner\"")
}

fn quoted(prefix: &str, name: &str) -> Result<String> {
    let valid = !name.is_empty()
        && name.len() <= LONGEST
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
    if valid {
        Ok(format!("\"{prefix}{name}\""))
    } else {
        Err(DatabaseError::Name(name.to_owned()))
    }
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
