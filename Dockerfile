# One image for every role: manyhands broker, worker, run, …
#
#   docker build -t manyhands .
#   docker build --build-arg PYTHON_IMAGE=my-debian-with-python3 -t manyhands .
#
# The base needs python3 (3.11 or newer) with venv and pip.
# Pinned: a tag can come to mean another image. To renew it: docker buildx imagetools inspect NAME:TAG
ARG PYTHON_IMAGE=python:3.12-slim-bookworm@sha256:782412e85d0f0984994c290652577d4018aff08145c85b262bb63dc0c7522254

FROM ${PYTHON_IMAGE} AS build
LABEL manyhands.stage=build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore PIP_QUIET=1
# Without pip of its own: the base's serves here, and the image needs none.
RUN python3 -m venv --without-pip /opt/venv
ENV INSTALL="python3 -m pip --python /opt/venv/bin/python install"
WORKDIR /src
# The dependencies make a layer of their own, which changes of the sources leave alone. Each is the very
# file that tools/lock.py has pinned. What builds the package stays out of the image.
COPY deploy/requirements.lock deploy/build.lock ./
RUN $INSTALL --require-hashes --requirement requirements.lock \
 && python3 -m venv --without-pip /opt/build \
 && python3 -m pip --python /opt/build/bin/python install --require-hashes --requirement build.lock \
 && find /opt/venv -type d -name tests -prune -exec rm -rf {} +
COPY pyproject.toml LICENSE README.md ./
COPY shared shared
COPY client client
COPY broker broker
COPY worker worker
RUN python3 -m pip --python /opt/build/bin/python wheel --no-deps --no-build-isolation --wheel-dir /wheels . \
 && $INSTALL --no-deps --target /opt/manyhands /wheels/*.whl

FROM ${PYTHON_IMAGE}
# Everybody may write to /scratch: a tmpfs takes the mode of the directory that it covers.
RUN useradd --system --uid 10001 --create-home manyhands \
 && install -d -o manyhands -g manyhands -m 700 /keys /node-keys /client-keys /journal \
 && install -d -m 1777 /scratch
COPY --from=build /opt/venv /opt/venv
COPY --from=build /opt/manyhands /opt/manyhands
ENV PATH=/opt/venv/bin:/opt/manyhands/bin:$PATH PYTHONPATH=/opt/manyhands PYTHONUNBUFFERED=1
USER manyhands
WORKDIR /scratch
ENTRYPOINT ["manyhands"]
CMD ["--help"]
