# The operator as one static binary in an empty image: no shell, no package manager, and no other
# user than 65532. Build: docker build --build-arg REVISION=$(git rev-parse HEAD) -t golive .
# The base is pinned by digest; the tag beside it is for people. `scratch` is empty and has none.

FROM rust:1.95-alpine@sha256:606fd313a0f49743ee2a7bd49a0914bab7deedb12791f3a846a34a4711db7ed2 AS build
RUN apk add --no-cache build-base
WORKDIR /src
COPY . .
ARG REVISION=unknown
# Seconds since 1970 of the commit: no time of the build is in what is built.
ARG SOURCE_DATE_EPOCH=0
ENV GOLIVE_REVISION=${REVISION} SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH}
# On Alpine the target is musl, and binaries are static.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --bin golive && \
    cp target/release/golive /golive && \
    printf 'golive:x:65532:65532::/:\n' > /passwd

FROM scratch
ARG REVISION=unknown
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="golive" \
      org.opencontainers.image.description="Takes a web application live on Fly.io from one Kubernetes object" \
      org.opencontainers.image.source="https://github.com/golive/golive" \
      org.opencontainers.image.documentation="https://github.com/golive/golive/blob/main/docs/install.md" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /golive /golive
COPY --from=build /passwd /etc/passwd
# The authorities that Fly.io's certificates are checked against.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
ENV SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
USER 65532:65532
EXPOSE 8080
ENTRYPOINT ["/golive"]
CMD ["run"]
