//! Reasons of conditions, steps and events. They are part of the API: a published reason keeps its
//! meaning. A new one is a line here and a row in `docs/tasks/recover-from-failures.md`; a test
//! requires both.

use super::enumeration::api_enum;

api_enum! {
    /// The reason of a condition, a step or an event.
    pub enum Reason, lenient, default Unknown {
        /// The reason is not known.
        Unknown = "Unknown",

        /// A receiver of notifications refuses messages, or has taken none for an hour.
        NotificationFailed = "NotificationFailed",

        // The state of an activation.
        /// Work is under way.
        Progressing = "Progressing",
        /// Something failed for the moment and is retried.
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
        /// The machines run another release than the one that passed its SmokeTest last.
        ReleaseReplaced = "ReleaseReplaced",
        /// A requested rollback was refused.
        RollbackRefused = "RollbackRefused",
        /// A rollback was due, and is held back.
        RollbackHeld = "RollbackHeld",
        /// The last good release was restored, and it failed too.
        RestoreFailed = "RestoreFailed",
        /// Only a plan was requested, and it is ready.
        Planned = "Planned",
        /// A person stopped the work on this plan.
        Aborted = "Aborted",
        /// The activation is suspended.
        Suspended = "Suspended",
        /// The activation is not suspended.
        NotSuspended = "NotSuspended",
        /// The activation is being deleted.
        Deleting = "Deleting",
        /// Deletion cannot continue.
        DeletionBlocked = "DeletionBlocked",
        /// An earlier phase or step has not succeeded.
        Waiting = "Waiting",
        /// It has not been observed yet.
        Pending = "Pending",
        /// It matches the spec.
        Succeeded = "Succeeded",
        /// It was not requested.
        NotRequested = "NotRequested",
        /// This version of Golive does not implement it.
        NotImplemented = "NotImplemented",
        /// A change was sent, and the next observation still requires it.
        ChangeWithoutEffect = "ChangeWithoutEffect",
        /// The creation of something is recorded in the status before the request is sent.
        Announcing = "Announcing",
        /// This replica is stopping, or no longer leads.
        NotLeading = "NotLeading",
        /// The Kubernetes API does not answer, or refuses.
        KubernetesUnavailable = "KubernetesUnavailable",
        /// Golive has a bug; the message describes it.
        InternalError = "InternalError",
        /// The phase did not succeed within its deadline.
        DeadlineExceeded = "DeadlineExceeded",
        /// Everything on Fly.io could be observed.
        Observed = "Observed",
        /// Fly.io could not be observed; the status shows the last known state.
        ObservationUnknown = "ObservationUnknown",
        /// No drift: what runs matches the spec.
        NoDrift = "NoDrift",
        /// Drift: what runs does not match the spec.
        DriftDetected = "DriftDetected",

        // Errors of the object or of what it names.
        /// A field has a value that cannot be used.
        InvalidSpec = "InvalidSpec",
        /// A Secret that is named does not exist.
        SecretNotFound = "SecretNotFound",
        /// A Secret that is named has no such key.
        SecretKeyMissing = "SecretKeyMissing",
        /// A Secret has a value that cannot be used.
        SecretInvalid = "SecretInvalid",
        /// A Secret that is named does not have the label that lets an Activation use it.
        SecretNotAllowed = "SecretNotAllowed",
        /// Warning: a value of a Secret is too short or too common to be removed from logs and
        /// messages.
        SecretNotHidden = "SecretNotHidden",
        /// The Secrets and ConfigMaps that the spec names are too large in all.
        ReferencedDataTooLarge = "ReferencedDataTooLarge",
        /// Too much of what objects name is in memory: this object waits for room.
        ReferencedDataCrowded = "ReferencedDataCrowded",
        /// A ConfigMap that is named does not exist.
        ConfigMapNotFound = "ConfigMapNotFound",
        /// A ConfigMap that is named has no such key.
        ConfigMapKeyMissing = "ConfigMapKeyMissing",
        /// The fly.toml is not valid.
        FlyConfigInvalid = "FlyConfigInvalid",
        /// The fly.toml is valid, and something in it is probably a mistake or has no effect.
        FlyConfigDoubtful = "FlyConfigDoubtful",
        /// The deployment strategy does not work with the volumes or checks.
        StrategyIncompatible = "StrategyIncompatible",
        /// No health check is declared, or it does not cover what the application depends on.
        HealthCheckMissing = "HealthCheckMissing",
        /// The requested addresses do not support the protocols of the services.
        AddressesInsufficient = "AddressesInsufficient",
        /// A secret is a placeholder, too short, or meant for tests.
        SecretWeak = "SecretWeak",
        /// A value is probably not what was meant: it is empty, ends with a line break, or is an
        /// address that machines at Fly.io do not reach.
        SecretDoubtful = "SecretDoubtful",
        /// Another Activation owns the app.
        AppClaimed = "AppClaimed",

        // The image that is followed.
        /// The image that is followed is the one that the policy chooses.
        SourceFollowed = "SourceFollowed",
        /// The tag now points to another image, which is not deployed.
        TagMoved = "TagMoved",
        /// The chosen tag is gone, and Golive does not go back to an older one.
        TagGone = "TagGone",
        /// No tag of the image matches the policy.
        NoMatchingTag = "NoMatchingTag",
        /// The registry denies access to the tags.
        SourceForbidden = "SourceForbidden",
        /// The registry cannot be read at the moment.
        SourceUnreadable = "SourceUnreadable",

        // Answers of Fly.io.
        /// Fly.io refuses the token.
        TokenInvalid = "TokenInvalid",
        /// The token may not do what is needed.
        TokenScopeMissing = "TokenScopeMissing",
        /// The token expires too early.
        TokenExpiring = "TokenExpiring",
        /// The organization does not exist, or the token has no access to it.
        OrganizationNotFound = "OrganizationNotFound",
        /// The organization is suspended or cannot pay.
        OrganizationUnusable = "OrganizationUnusable",
        /// The app's name belongs to somebody else.
        NameTaken = "NameTaken",
        /// The app exists, and `adoption` does not allow Golive to take it over.
        AdoptionRefused = "AdoptionRefused",
        /// The region does not exist, or is deprecated.
        RegionUnusable = "RegionUnusable",
        /// The image does not exist.
        ImageNotFound = "ImageNotFound",
        /// The registry refuses access to the image.
        ImageForbidden = "ImageForbidden",
        /// The image does not exist for the machines' architecture.
        ImageArchitectureMissing = "ImageArchitectureMissing",
        /// The database's plan, size or version is not available.
        DatabasePlanUnusable = "DatabasePlanUnusable",
        /// A hostname does not resolve to the app.
        HostnameNotPointed = "HostnameNotPointed",
        /// Nobody holds the right to approve a gate.
        NobodyMayApprove = "NobodyMayApprove",
        /// Fly.io refuses, because a quota is used up.
        QuotaExceeded = "QuotaExceeded",
        /// Fly.io has no room for the machine.
        CapacityUnavailable = "CapacityUnavailable",
        /// Fly.io limits the rate of requests.
        RateLimited = "RateLimited",
        /// Fly.io does not answer, or answers with an error of its own.
        FlyUnavailable = "FlyUnavailable",
        /// A registry that is not Fly.io's does not answer, or answers with an error of its own.
        RegistryUnavailable = "RegistryUnavailable",
        /// Fly.io refuses the call as invalid.
        FlyRefused = "FlyRefused",
        /// It is not known whether a call took effect; Golive observes before it calls again.
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
        /// The database that the app used is gone at Fly.io with its data; a person decides.
        DatabaseLost = "DatabaseLost",
        /// The Redis database that the app used is gone at Fly.io with its data; a person decides.
        RedisLost = "RedisLost",
        /// A generated value that the app uses is no longer in Kubernetes; a person decides.
        GeneratedSecretLost = "GeneratedSecretLost",
        /// A secret of the release that serves is not at Fly.io as it was set, and its value is not in
        /// Kubernetes any more.
        ServingSecretLost = "ServingSecretLost",
        /// A requested rotation of the generated secrets is refused: the value of its annotation is too long.
        RotationRefused = "RotationRefused",
        /// A rotation of the generated secrets was requested, and waits until Deploy has set those that wait.
        RotationWaits = "RotationWaits",
        /// Redis failed at Fly.io.
        RedisFailed = "RedisFailed",
        /// Something that costs money or holds data is left behind: the spec no longer asks for it.
        LeftBehind = "LeftBehind",
        /// The certificate is not issued yet: a DNS record is missing, or Fly.io is issuing it.
        CertificatePending = "CertificatePending",
        /// Another Fly app holds the hostname.
        HostnameTaken = "HostnameTaken",

        // Deploy.
        /// The release needs a new, empty volume while the app has one that nothing would use.
        VolumeLeftBehind = "VolumeLeftBehind",
        /// A volume that the app had is gone at Fly.io with its data.
        VolumeLost = "VolumeLost",
        /// The release command is running.
        ReleaseCommandRunning = "ReleaseCommandRunning",
        /// The release command failed.
        ReleaseCommandFailed = "ReleaseCommandFailed",
        /// A separate machine tests a machine that runs the release.
        MachineCheckRunning = "MachineCheckRunning",
        /// A machine failed one of the `machine_checks` of the fly.toml.
        MachineCheckFailed = "MachineCheckFailed",
        /// A machine exited.
        MachineExited = "MachineExited",
        /// A machine's program exits again and again, and Fly.io starts it again each time.
        CrashLooping = "CrashLooping",
        /// A machine ran out of memory.
        OutOfMemory = "OutOfMemory",
        /// A machine is starting.
        MachineStarting = "MachineStarting",
        /// The traffic moves from the old machines to the new ones.
        TrafficMoving = "TrafficMoving",
        /// A machine's health check does not pass.
        NotHealthy = "NotHealthy",
        /// The image runs in a machine that gets no requests, to try it.
        ImageTrialRunning = "ImageTrialRunning",
        /// The image did not run steadily when it was tried.
        ImageTrialFailed = "ImageTrialFailed",
        /// A machine is healthy, and passed a check later than the check's `grace_period` allows for.
        SlowStart = "SlowStart",
        /// Another program holds the machine's lease.
        MachineLeased = "MachineLeased",
        /// A machine does not run the wanted image or configuration.
        MachineOutdated = "MachineOutdated",
        /// Fly.io reverted the update of a machine; it is sent again.
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
        /// Fly.io's proxy has stopped all machines, because nobody sent a request; the last proof holds.
        Asleep = "Asleep",

        // Integrations.
        /// All integrations were verified on the release that serves.
        Verified = "Verified",
        /// A check of an integration is under way.
        IntegrationChecking = "IntegrationChecking",
        /// A Secret that an integration needs is missing.
        SecretMissing = "SecretMissing",
        /// The application accepts a forged or unsigned request.
        ForgeryAccepted = "ForgeryAccepted",
        /// A check of an integration failed.
        IntegrationFailed = "IntegrationFailed",

        // The watch after Go-Live.
        /// Every objective is met now.
        ObjectivesMet = "ObjectivesMet",
        /// An objective is not met.
        ObjectiveBreached = "ObjectiveBreached",
        /// The budget of an objective burns so fast that it will soon be used up.
        BudgetBurning = "BudgetBurning",
        /// Nothing was observed that an objective could be judged by.
        NoData = "NoData",
        /// There were too few events to judge an objective.
        InsufficientTraffic = "InsufficientTraffic",
        /// Too little of the watch was observed to judge an objective.
        ObservationGap = "ObservationGap",
        /// The bound of an objective lies between two bounds of the histogram, and so does the quantile.
        BetweenBounds = "BetweenBounds",
        /// The watch has ended, and an objective did not hold.
        NotStabilized = "NotStabilized",
        /// The watch has ended, and something critical happened in it.
        CriticalIncident = "CriticalIncident",
        /// The watch has ended, and too little was observed for a verdict.
        Inconclusive = "Inconclusive",
        /// What a watch has stored cannot be read.
        WatchDamaged = "WatchDamaged",
        /// A breach would have been followed by a rollback, which `onBreach` does not ask for.
        WouldRollBack = "WouldRollBack",

        // Gates.
        /// A person rejected.
        Rejected = "Rejected",
        /// Nobody decided in time.
        ApprovalExpired = "ApprovalExpired",
    }
}

impl Reason {
    /// Whether it says that an integration was proven to be wrong.
    #[must_use]
    pub fn names_a_failed_integration(self) -> bool {
        matches!(self, Self::ForgeryAccepted | Self::IntegrationFailed)
    }

    /// Whether it says, in the phase SmokeTest, what a check found to be wrong. Such a check is
    /// repeated until the deadline of the phase, and has failed then.
    #[must_use]
    pub fn names_a_failed_check(self) -> bool {
        matches!(
            self,
            Self::SmokeCheckFailed
                | Self::ExecUnavailable
                | Self::DnsNotResolved
                | Self::TlsFailed
                | Self::AddressesInsufficient
                | Self::MachineExited
                | Self::NotHealthy
        )
    }
}
