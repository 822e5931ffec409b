package portaudio

import (
	"testing"

	pa "github.com/gordonklaus/portaudio"
)

func TestALSAName(t *testing.T) {
	alsa, jack := &pa.HostApiInfo{Type: pa.ALSA}, &pa.HostApiInfo{Type: pa.JACK}
	for _, c := range []struct {
		api        *pa.HostApiInfo
		name, want string
	}{
		{alsa, "HDA Intel PCH: ALC269VB Analog (hw:0,0)", "hw:0,0"},
		{alsa, "USB Audio (front): - (hw:11,3)", "hw:11,3"},
		{alsa, "Loopback: PCM (plughw:1,0)", "plughw:1,0"},
		{alsa, "default", "default"},
		{alsa, "desk (hw:0,0) left", "desk (hw:0,0) left"},
		{jack, "system (hw:0,0)", ""},
		{nil, "default", ""},
	} {
		if got := alsaName(&pa.DeviceInfo{Name: c.name, HostApi: c.api}); got != c.want {
			t.Errorf("%q: %q, want %q", c.name, got, c.want)
		}
	}
}
