# Two stages; the Makefile does the work in both.
FROM debian:12-slim AS base
RUN apt-get update \
	&& apt-get install -y --no-install-recommends make \
	&& rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY Makefile ./
COPY test/deps.sh test/

FROM base AS build
RUN make deps DEPS=build
COPY . .
RUN make -j"$(nproc)" && make install DESTDIR=/out prefix=/usr

FROM base
RUN make deps DEPS=runtime && rm -rf /src /var/lib/apt/lists/* \
	&& useradd --system --no-create-home --shell /usr/sbin/nologin assent
WORKDIR /
COPY --from=build /out/ /
USER assent
EXPOSE 7470
ENTRYPOINT ["assentd"]
CMD ["--help"]
