# The README's two commands in a container: `docker build -t sluice .`, then
#   docker run --rm -v "$PWD/runs:/sluice/runs" sluice scripts/demo
#   docker run --rm sluice scripts/test
FROM debian:12
COPY scripts/setup /sluice/scripts/setup
RUN /sluice/scripts/setup
COPY . /sluice
WORKDIR /sluice
RUN cmake --preset release && cmake --build --preset release
ENV PATH="/sluice/build/release:$PATH"
CMD ["sluice", "doctor"]
