package voice

import (
	"time"

	"teahouse/internal/audio"
	"teahouse/room"
)

// Frames of 10 ms are heard 10 ms sooner than those of 20. They are twice the
// packets, and half as much again of what is on the wire, so they are for few
// links: three with 10 ms frames are fewer packets (300 a second) and bytes than
// the seven of a full table with 20 ms (350), which is what a home and a core are
// measured for. Each change is one joint in what others hear, so it does not
// flap: where short frames did not last they are tried less and less often.
const (
	shortLinks = 3
	shortAfter = 5 * time.Second // in addition to what makes a link short and clean
	shortKeeps = time.Minute     // it has lasted
	shortMost  = 5 * time.Minute // that shortAfter grows to
)

// shortness decides whether frames are short. It knows nothing of what is said.
// The zero value says no.
type shortness struct {
	on    bool
	media uint32        // media time of the last step
	since time.Duration // how long it has been on, or worth it
	after time.Duration // how long it must be worth it; 0: shortAfter
}

// step takes what the links want at a media time, and tells whether frames are
// short from there on.
func (s *shortness) step(f room.Flows, media uint32) bool {
	passed := time.Duration(max(int32(media-s.media), 0)) * time.Second / audio.Rate
	s.media = media
	s.after = max(s.after, shortAfter)
	worth := f.Short && f.Thin == 0 && f.Depth == 0 && f.Base <= shortLinks
	switch {
	case !worth && s.on && s.since < shortKeeps:
		s.on, s.since, s.after = false, 0, min(2*s.after, shortMost)
	case !worth && s.on:
		s.on, s.since, s.after = false, 0, shortAfter
	case !worth:
		s.since = 0
	default:
		s.since += min(passed, time.Second)
		if !s.on && s.since >= s.after {
			s.on, s.since = true, 0
		}
	}
	return s.on
}
