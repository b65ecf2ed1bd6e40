# A small image: the program, the system's certificate authorities, and what the health check needs. No shell,
# no root. docs/operations.md says how to run it.
#
#   docker build -t rtm-bridge .

FROM rust:1-slim-bookworm AS build
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked && cp target/release/rtm-bridge /rtm-bridge
# What becomes the store's directory; there is no mkdir in the image itself.
RUN mkdir /store

# A wget that needs no libraries.
FROM busybox:1.37-musl AS busybox

FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=busybox /bin/busybox /bin/wget
COPY --from=build /rtm-bridge /usr/bin/rtm-bridge
# A volume that is made anew takes owner and mode from here.
COPY --from=build --chown=65532:65532 --chmod=0700 /store /var/lib/rtm-bridge

USER 65532:65532
WORKDIR /var/lib/rtm-bridge
# The store is there unless [store] path says otherwise. Few heaps in the C library save memory (systemd's unit
# does the same).
ENV RTM_BRIDGE_CONFIG=/etc/rtm-bridge/bridge.toml \
    STATE_DIRECTORY=/var/lib/rtm-bridge \
    MALLOC_ARENA_MAX=2
VOLUME /var/lib/rtm-bridge
EXPOSE 8080 8081

# /readyz: the store takes writes, the listeners are up. [http] ops must listen on port 8081.
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s --retries=3 \
    CMD ["/bin/wget", "-q", "-O", "/dev/null", "http://127.0.0.1:8081/readyz"]
# An orderly end takes up to 10 s: give it more than Docker's 10 (--stop-timeout 20).
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/bin/rtm-bridge"]
CMD ["run"]
