# syntax=docker/dockerfile:1
# Two stages: the first has pip, the second only what runs. No key is in the image: state lives in the volume.
FROM python:3.11-slim AS build
WORKDIR /src
RUN python -m venv /opt/trillium
COPY requirements/build.txt requirements/runtime.txt requirements/
RUN /opt/trillium/bin/pip install --no-cache-dir --require-hashes -r requirements/build.txt -r requirements/runtime.txt
COPY pyproject.toml README.md ./
COPY protocol protocol
COPY broker broker
COPY constrained constrained
COPY agents agents
RUN /opt/trillium/bin/pip install --no-cache-dir --no-build-isolation --no-deps .

FROM python:3.11-slim
RUN useradd --system --uid 10001 --home-dir /var/lib/trillium trillium \
    && install -d -o trillium -g trillium -m 700 /var/lib/trillium
COPY --from=build /opt/trillium /opt/trillium
ENV PATH=/opt/trillium/bin:$PATH PYTHONUNBUFFERED=1
USER trillium
VOLUME /var/lib/trillium
EXPOSE 5683/udp
# A CoAP ping (an empty confirmable message) to the endpoint in this container.
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s CMD ["python", "-m", "constrained.ping", "coap://127.0.0.1:5683"]
ENTRYPOINT ["trillium"]
# The passphrase comes from a file that is mounted at run time (--passphrase-file), never from the image.
CMD ["serve", "/var/lib/trillium/authority", "--coap", "0.0.0.0:5683", "--passphrase-file", "/run/secrets/trillium"]
