# shellcheck shell=bash
# What the scripts share. Sourced; sets root, moves there, and sets how Go builds here.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"

# Everything that is for people goes to standard error: standard output is for results.
say() { printf '%s\n' "$@" >&2; } # each argument is a line
die() {
	say "$@"
	exit 1
}
have() { command -v "$1" >/dev/null 2>&1; }

# A Go unpacked where go.dev says, but not yet on the PATH, is found all the same.
if ! have go && [[ -x ${GOROOT:-/usr/local/go}/bin/go ]]; then PATH=$PATH:${GOROOT:-/usr/local/go}/bin; fi

# The tags: our Opus binding without libopusfile, which nothing here uses; and, where WebRTC's audio processing 0.3 (or a C++
# compiler for it) is missing, nowebrtc, which leaves echo and noise to speexdsp. An exported GOFLAGS hides the one of
# `go env -w`, so that one is kept too.
use_our_goflags() {
	local flags tags=nolibopusfile
	flags=$(go env GOFLAGS)
	if ! have c++ || ! have pkg-config || ! pkg-config --exists webrtc-audio-processing; then tags+=,nowebrtc; fi
	[[ $flags == *nolibopusfile* ]] || flags="$flags -tags=$tags"
	# Outside a checkout that git trusts (a tarball, another user's clone) there is no version to stamp, and go build would stop.
	if [[ $flags != *-buildvcs* ]] && ! git rev-parse HEAD >/dev/null 2>&1; then flags="$flags -buildvcs=false"; fi
	export GOFLAGS=${flags# }
}
