# The operator as one static binary in an empty image: no shell, no package manager, and no other
# user than 65532. Build: docker build --build-arg REVISION=$(git rev-parse HEAD) -t golive .
# Pin both images by digest where builds must be reproducible.

FROM rust:1.95-alpine AS build
RUN apk add --no-cache build-base
WORKDIR /src
COPY . .
ARG REVISION=unknown
ENV GOLIVE_REVISION=${REVISION}
# On Alpine the target is musl, and binaries are static.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --bin golive && \
    cp target/release/golive /golive && \
    printf 'golive:x:65532:65532::/:\n' > /passwd

FROM scratch
COPY --from=build /golive /golive
COPY --from=build /passwd /etc/passwd
# The authorities that Fly.io's certificates are checked against.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
ENV SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
USER 65532:65532
EXPOSE 8080
ENTRYPOINT ["/golive"]
CMD ["run"]
