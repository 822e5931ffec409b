//go:build nowebrtc

package process

import "errors"

const haveWebRTC = false

func newWebRTC(_, _ bool) (engine, error) {
	return nil, errors.New("this build has no WebRTC audio processing (tag nowebrtc)")
}
