//! Reasons of conditions, steps and events. They are part of the API: once given out, a reason
//! keeps its meaning.

use super::words::words;

words! {
    /// Why something is as it is, in one word.
    pub enum Reason, lenient, default Unknown {
        /// No more is known.
        Unknown = "Unknown",

        // Where an activation stands.
        /// Work is under way.
        Progressing = "Progressing",
        /// Something passed for a moment; it is tried again.
        ProgressingWithRetry = "ProgressingWithRetry",
        /// A person must approve.
        AwaitingApproval = "AwaitingApproval",
        /// The application is live.
        GoLive = "GoLive",
        /// The application is live, and is being watched.
        Watching = "Watching",
        /// The watch has ended with all objectives met.
        Stabilized = "Stabilized",
        /// The last good release serves, and the wanted one does not.
        RolledBack = "RolledBack",
        /// A rollback that somebody asked for was refused.
        RollbackRefused = "RollbackRefused",
        /// A rollback was called for, and held back.
        RollbackHeld = "RollbackHeld",
        /// The last good release was restored, and it has failed as well.
        RestoreFailed = "RestoreFailed",
        /// Only a plan was asked for, and it is ready.
        Planned = "Planned",
        /// Somebody has stopped the work on this plan.
        Aborted = "Aborted",
        /// The activation is suspended.
        Suspended = "Suspended",
        /// The activation is not suspended.
        NotSuspended = "NotSuspended",
        /// The activation is being deleted.
        Deleting = "Deleting",
        /// Deletion cannot go on.
        DeletionBlocked = "DeletionBlocked",
        /// An earlier phase or step is not done.
        Waiting = "Waiting",
        /// It has not been looked at yet.
        Pending = "Pending",
        /// It is as it should be.
        Succeeded = "Succeeded",
        /// It was not asked for.
        NotRequested = "NotRequested",
        /// This version of Golive does not do this yet; nothing was done about it.
        NotImplemented = "NotImplemented",
        /// A change was sent, and the next look still asks for it.
        ChangeWithoutEffect = "ChangeWithoutEffect",
        /// The creation of something is being announced before it is sent.
        Announcing = "Announcing",
        /// This replica is stopping, or no longer leads.
        NotLeading = "NotLeading",
        /// The Kubernetes API does not answer, or refuses.
        KubernetesUnavailable = "KubernetesUnavailable",
        /// Golive made a mistake; the message says which.
        InternalError = "InternalError",
        /// The phase was not done within its deadline.
        DeadlineExceeded = "DeadlineExceeded",
        /// Everything on Fly.io could be observed.
        Observed = "Observed",
        /// Fly.io could not be observed; what is said about it is what was last known.
        ObservationUnknown = "ObservationUnknown",
        /// What runs is what was asked for.
        NoDrift = "NoDrift",
        /// What runs is not what was asked for.
        DriftDetected = "DriftDetected",

        // What is wrong with the object or with what it names.
        /// A field has a value that cannot be used.
        InvalidSpec = "InvalidSpec",
        /// A Secret that is named does not exist.
        SecretNotFound = "SecretNotFound",
        /// A Secret that is named has no such key.
        SecretKeyMissing = "SecretKeyMissing",
        /// A Secret has a value that cannot be used.
        SecretInvalid = "SecretInvalid",
        /// A ConfigMap that is named does not exist.
        ConfigMapNotFound = "ConfigMapNotFound",
        /// A ConfigMap that is named has no such key.
        ConfigMapKeyMissing = "ConfigMapKeyMissing",
        /// The fly.toml is not valid.
        FlyConfigInvalid = "FlyConfigInvalid",
        /// The deployment strategy does not go with volumes or checks.
        StrategyIncompatible = "StrategyIncompatible",
        /// No health check is declared, or it does not cover what the application depends on.
        HealthCheckMissing = "HealthCheckMissing",
        /// The addresses that are asked for do not carry what the services speak.
        AddressesInsufficient = "AddressesInsufficient",
        /// A secret is a placeholder, too short, or meant for tests.
        SecretWeak = "SecretWeak",
        /// Another Activation owns the app.
        AppClaimed = "AppClaimed",

        // The image that is followed.
        /// The image that is followed is the one that the policy chooses.
        SourceFollowed = "SourceFollowed",
        /// The tag stands for another image by now, which is not deployed.
        TagMoved = "TagMoved",
        /// The tag that was chosen is gone, and nothing goes back to an older one.
        TagGone = "TagGone",
        /// No tag of the image fits the policy.
        NoMatchingTag = "NoMatchingTag",
        /// The registry does not let us read the tags.
        SourceForbidden = "SourceForbidden",
        /// The registry cannot be read for the moment.
        SourceUnreadable = "SourceUnreadable",

        // What Fly.io says.
        /// Fly.io refuses the token.
        TokenInvalid = "TokenInvalid",
        /// The token may not do what is needed.
        TokenScopeMissing = "TokenScopeMissing",
        /// The token ends too early.
        TokenExpiring = "TokenExpiring",
        /// The organization does not exist, or the token does not see it.
        OrganizationNotFound = "OrganizationNotFound",
        /// The organization is suspended or cannot pay.
        OrganizationUnusable = "OrganizationUnusable",
        /// The app's name belongs to somebody else.
        NameTaken = "NameTaken",
        /// The app exists, and `adoption` does not allow to take it over.
        AdoptionRefused = "AdoptionRefused",
        /// The region does not exist, or is deprecated.
        RegionUnusable = "RegionUnusable",
        /// The image does not exist.
        ImageNotFound = "ImageNotFound",
        /// The registry refuses access to the image.
        ImageForbidden = "ImageForbidden",
        /// The image is not there for the machines' architecture.
        ImageArchitectureMissing = "ImageArchitectureMissing",
        /// The database's plan, size or version cannot be had.
        DatabasePlanUnusable = "DatabasePlanUnusable",
        /// A hostname does not resolve to the app.
        HostnameNotPointed = "HostnameNotPointed",
        /// Nobody holds the right to approve a gate.
        NobodyMayApprove = "NobodyMayApprove",
        /// Fly.io refuses, because a quota is used up.
        QuotaExceeded = "QuotaExceeded",
        /// Fly.io has no room for the machine.
        CapacityUnavailable = "CapacityUnavailable",
        /// Fly.io asks us to slow down.
        RateLimited = "RateLimited",
        /// Fly.io does not answer, or answers with an error of its own.
        FlyUnavailable = "FlyUnavailable",
        /// Fly.io refuses the call as invalid.
        FlyRefused = "FlyRefused",
        /// It is not known whether a call took effect; Golive looks before it calls again.
        OutcomeUnknown = "OutcomeUnknown",

        // Provision.
        /// A fallback that the object declares was used.
        FallbackUsed = "FallbackUsed",
        /// The database is being created.
        DatabaseCreating = "DatabaseCreating",
        /// The database failed at Fly.io.
        DatabaseFailed = "DatabaseFailed",
        /// The database could not be attached.
        AttachFailed = "AttachFailed",
        /// Redis failed at Fly.io.
        RedisFailed = "RedisFailed",
        /// The certificate is not issued yet: a DNS record is missing, or Fly.io is at work on it.
        CertificatePending = "CertificatePending",

        // Deploy.
        /// The release command is running.
        ReleaseCommandRunning = "ReleaseCommandRunning",
        /// The release command failed.
        ReleaseCommandFailed = "ReleaseCommandFailed",
        /// A machine of its own tests a machine that was given the release.
        MachineCheckRunning = "MachineCheckRunning",
        /// A machine failed one of the `machine_checks` of the fly.toml.
        MachineCheckFailed = "MachineCheckFailed",
        /// A machine exited.
        MachineExited = "MachineExited",
        /// A machine ran out of memory.
        OutOfMemory = "OutOfMemory",
        /// A machine is starting.
        MachineStarting = "MachineStarting",
        /// The traffic moves from the old machines to the new ones.
        TrafficMoving = "TrafficMoving",
        /// A machine's health check does not pass.
        NotHealthy = "NotHealthy",
        /// Another program holds the machine's lease.
        MachineLeased = "MachineLeased",
        /// A machine does not run the wanted image or configuration.
        MachineOutdated = "MachineOutdated",
        /// Fly.io took the update of a machine back; it is made again.
        UpdateReverted = "UpdateReverted",

        // SmokeTest.
        /// A check failed.
        SmokeCheckFailed = "SmokeCheckFailed",
        /// A check is being tried.
        SmokeCheckRunning = "SmokeCheckRunning",
        /// A command cannot be run in the machines.
        ExecUnavailable = "ExecUnavailable",
        /// The app's name does not resolve.
        DnsNotResolved = "DnsNotResolved",
        /// The connection is not secure: the certificate does not fit.
        TlsFailed = "TlsFailed",

        // Gates.
        /// Somebody has rejected.
        Rejected = "Rejected",
        /// Nobody decided in time.
        ApprovalExpired = "ApprovalExpired",
    }
}
