package room

import (
	"crypto/ed25519"
	"errors"
	"log/slog"
	"math/rand/v2"
	"time"

	"teahouse/internal/mesh"
)

// Errors that callers branch on.
var (
	// ErrRefused: the room does not let this member in, or put them out.
	ErrRefused = errors.New("the room refused")
	// ErrClosed: the room has been left.
	ErrClosed = errors.New("the room has been left")
	// ErrSuperseded: a newer instance of the same member key has joined.
	ErrSuperseded = errors.New("this member has joined from somewhere newer")
)

// Limits.
const (
	// MaxNick is the longest nickname, in bytes of UTF-8.
	MaxNick = 64
	// MaxMembers is how many members a roster holds; further entries are
	// refused.
	MaxMembers = 256
	// MaxOpus is the longest Opus frame that one sealed frame bears, bytes.
	MaxOpus = 1000
)

// Secret is the room_secret of DESIGN section 5. Whoever holds it can find
// the room and knock at its door. See [OpenSecret].
type Secret [32]byte

// Member is the public key of a member: what people verify, mute and ban.
type Member [ed25519.PublicKeySize]byte

// Config is what a room needs. Network, Secret, Key, Instance are required.
type Config struct {
	Network mesh.Network
	Secret  Secret
	// Key is the member key, random per room, kept on disk.
	Key ed25519.PrivateKey
	// Instance is higher than any that this member key has used before; it
	// was synced to disk before the call.
	Instance uint64
	// RaiseInstance, if set, is called when the room shows a higher instance
	// of this member key that is not alive: it must store the number it is
	// given before it returns.
	RaiseInstance func(atLeast uint64) error

	Nick       string // at most MaxNick bytes, no control characters
	ListenOnly bool   // has no microphone
	Muted      bool
	// Shielded keeps from whoever sees the packets when we mute and unmute: the
	// others are told with the next entry that is due, within six seconds.
	Shielded       bool
	Recording      bool // keeps what it hears: shown to all
	AllowRecording bool // others may keep what this member says

	// Heard is given every frame of others that was opened: authentic, not
	// a replay, of a visible member. It is called inline from the socket's
	// goroutine, for several members at once but for one member one by one,
	// and must neither block nor keep f.Opus.
	Heard func(from Member, f *Frame, arrival time.Time)

	Log *slog.Logger // nil discards

	// Now is the wall clock, used for the hour's DHT keys and the day's
	// topics alone: everything else measures time that has passed, so that a
	// clock that is wrong by an hour changes nothing else. It may be called
	// from several goroutines at once; nil is time.Now.
	Now func() time.Time
	// Random spreads timers (jitter, back-off) and nothing else: keys, salts
	// and nonces come from crypto/rand whatever stands here. A seeded source
	// makes a simulation repeatable. The room is its only user; nil is the
	// generator of math/rand/v2.
	Random rand.Source
	// Verified, if set, remembers for several rooms of this process whose
	// signatures were right (in one bubble of testing/synctest, where there is
	// one): each entry is then verified once, not once by each. nil: it is this
	// room's own.
	Verified *VerifiedEntries
}

// Frame is one Opus frame of one voice, opened.
type Frame struct {
	Flow    uint8  // FlowBase or FlowThin
	Counter uint32 // per instance and flow, never repeats
	// MediaTime is when the first sample was captured, in samples at 48 kHz,
	// modulo 2^32, of this instance.
	MediaTime uint32
	// Instance changes when the member restarts: decoder state is void.
	Instance uint64
	// SpurtStart and SpurtEnd mark the first and last frame of a talk spurt.
	SpurtStart, SpurtEnd bool
	// Level is the loudness in -dBov, 0 (loudest) to 127 (RFC 6464).
	Level uint8
	// Repaired tells that this copy was an older frame sent again.
	Repaired bool
	// Cover, for Speak alone, says that Opus is silence by somebody who may be
	// muted: it is sent all the same, so that the mute is not seen on the wire.
	Cover bool
	Opus  []byte // at most MaxOpus bytes, a whole Opus packet (RFC 6716)
}

// EventKind names an [Event]; the values are those of `teahouse join --json`.
type EventKind string

// The events of a room.
const (
	EventJoined    EventKind = "joined"    // once, when the room is entered
	EventMember    EventKind = "member"    // someone came, went or changed
	EventLink      EventKind = "link"      // a voice link came up, changed or went
	EventEpoch     EventKind = "epoch"     // the epoch changed
	EventRecording EventKind = "recording" // someone began or ended recording
	EventError     EventKind = "error"     // something the person should know
	EventLeft      EventKind = "left"      // once, the last
)

// Event is one change that a view may show. Which fields are set depends on
// Kind.
type Event struct {
	Kind   EventKind
	Time   time.Time
	Member Member
	Info   MemberInfo // member, recording: as it is now
	State  string     // member: in, out, changed; link: up, down
	Reason string     // link down, epoch, left: why, in words
	Path   mesh.Path  // link up
	Number uint32     // epoch
	Others int        // joined
	Code   string     // error: a stable word
	Err    error      // left: nil when asked for
}

// MemberInfo is what the roster shows of one member.
type MemberInfo struct {
	Member         Member
	Peer           mesh.PeerID
	Nick           string
	Instance       uint64
	Self           bool
	Muted          bool
	ListenOnly     bool
	Recording      bool
	AllowRecording bool
	Hand           bool
	Role           string // speaker, for all, while rooms are open and unowned
	Since          time.Time
}

// LinkInfo is the state of the link to one member.
type LinkInfo struct {
	Member Member
	Peer   mesh.PeerID
	Path   mesh.Path
	Up     bool
	RTT    time.Duration // from reports; 0 while unknown
	// Hears tells that the other side holds our epoch and has acknowledged
	// a report of ours: what we say is heard there.
	Hears bool
	Depth int // repair depth that we send with, 0 to 3
	// As measured here, cumulative in frames of both flows.
	Received, Lost, Repaired, Late uint64
	// As the other side last reported of what we sent, of the flow that it takes.
	PeerReceived, PeerLost uint64
	Stats                  mesh.LinkStats
}

// Stats is a snapshot of a room's counters.
type Stats struct {
	Epoch           uint32
	Members         int // self included
	FramesSent      uint64
	FramesOpened    uint64
	FramesReplayed  uint64 // a second copy or a replay: dropped
	FramesUnopened  uint64 // no key, or not authentic
	PacketsRefused  uint64 // malformed, or a kind not granted on that link
	BroadcastsBad   uint64
	MessagesBad     uint64
	EntriesRefused  uint64
	SessionsRefused uint64
}
