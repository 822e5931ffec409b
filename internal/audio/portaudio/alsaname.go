package portaudio

import (
	"regexp"

	pa "github.com/gordonklaus/portaudio"
)

// card is how PortAudio's name of a card ends: in the one that ALSA has for it
// (BuildDeviceList in pa_linux_alsa.c, "%s: %s (%s)").
var card = regexp.MustCompile(`\(((?:plug)?hw:\d+,\d+)\)$`)

// alsaName is what ALSA calls d, empty for one that is not ALSA's. All that are
// not cards have the name that ALSA's configuration gives them.
func alsaName(d *pa.DeviceInfo) string {
	if d.HostApi == nil || d.HostApi.Type != pa.ALSA {
		return ""
	}
	if m := card.FindStringSubmatch(d.Name); m != nil {
		return m[1]
	}
	return d.Name
}
