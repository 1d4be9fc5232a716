# syntax=docker/dockerfile:1
# The server in an image: built by the toolchain that it is written for, run by a user who owns nothing but /data.
FROM rust:1.95-bookworm AS build
# Cryptography is compiled from C.
RUN apt-get update && apt-get install --yes --no-install-recommends cmake && rm -rf /var/lib/apt/lists/*
WORKDIR /urge
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/urge/target \
    cargo build --release --locked --bin urge && cp target/release/urge /usr/local/bin/urge

FROM debian:bookworm-slim
# Twilio is spoken to by TLS.
RUN apt-get update && apt-get install --yes --no-install-recommends ca-certificates && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --no-create-home --home-dir /data urge \
    && install --directory --owner urge --group urge --mode 0700 /data
COPY --from=build /usr/local/bin/urge /usr/local/bin/urge
USER urge
WORKDIR /data
VOLUME /data
ENV URGE_LISTEN=0.0.0.0:8080 URGE_DATA_DIR=/data
EXPOSE 8080
# Sockets are told to come back before it ends.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=4s --start-period=30s CMD ["urge", "health"]
ENTRYPOINT ["urge"]
CMD ["serve"]
