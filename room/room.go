package room

import (
	"context"
	"errors"
)

// Room is one joined room. All methods may be called from any goroutine at
// once, but not from Config.Heard.
type Room struct{}

var errNotYet = errors.New("not yet")

// Join enters the room of cfg.Secret and returns when it is entered, even
// alone: it does not wait for the network, and others are met afterwards. ctx
// bounds the call, not the stay; the stay ends with [Room.Leave], which must
// be called even where the room has ended by itself (EventLeft). Errors: a
// configuration that cannot work, mesh.ErrBusy where 16 rooms are joined,
// mesh.ErrClosed.
func Join(ctx context.Context, cfg Config) (*Room, error) { return nil, errNotYet }

// ID is the room id. It is the same for all members and says nothing about
// the topic, but never travels in clear.
func (r *Room) ID() ID { return ID{} }

// Self is this member.
func (r *Room) Self() Member { return Member{} }

// Subscribe begins a view's own queue of events. It opens with the state of
// now: joined, then member (in) for each present member, self excluded, and
// link (up) for each link that is up; changes follow. The queue is bounded:
// later events about the same thing replace earlier ones that were not read.
func (r *Room) Subscribe() *Subscription { return nil }

// Members is the roster as of now, self first, then by key. It never waits.
func (r *Room) Members() []MemberInfo { return nil }

// Links is the state of the link to each member that we have a session with.
// It never waits.
func (r *Room) Links() []LinkInfo { return nil }

// Stats is a snapshot of the counters. It never waits.
func (r *Room) Stats() Stats { return Stats{} }

// Hearers is how many members hear what we say: see LinkInfo.Hears. It never
// waits.
func (r *Room) Hearers() int { return 0 }

// Speak sends one frame to every member that there is a link to. Of f it
// takes Flow, MediaTime, SpurtStart, SpurtEnd, Level and Opus (1 to MaxOpus
// bytes, not kept); Counter and Instance are the room's own. It never waits
// and allocates nothing. Frames are dropped without an error while muted,
// while listening only, or while nobody else is here. Errors: ErrClosed, and
// a frame that is out of range. For one goroutine at a time.
func (r *Room) Speak(f *Frame) error { return errNotYet }

// SetMuted mutes or unmutes: no voice leaves after SetMuted(true) returns.
// Like all setters it returns when the change is on its way to every other
// member, ErrClosed after the room has ended.
func (r *Room) SetMuted(muted bool) error { return errNotYet }

// SetRecording shows all that this member keeps what it hears. Nothing may be
// kept before SetRecording(true) has returned nil.
func (r *Room) SetRecording(on bool) error { return errNotYet }

// SetAllowRecording tells all whether they may keep what this member says.
func (r *Room) SetAllowRecording(on bool) error { return errNotYet }

// SetNick changes the nickname: at most MaxNick bytes of UTF-8 without
// control characters.
func (r *Room) SetNick(nick string) error { return errNotYet }

// SetListenOnly tells all that this member has no microphone; no voice leaves
// while it is set.
func (r *Room) SetListenOnly(on bool) error { return errNotYet }

// Done is closed when the room has ended; Err then tells why, nil if by Leave.
func (r *Room) Done() <-chan struct{} { return nil }

// Err is nil until Done is closed, and after a Leave.
func (r *Room) Err() error { return nil }

// Leave says goodbye, closes every link and waits for everything that the room
// has started. It is idempotent. Where ctx ends first the goodbye is cut
// short, but the room ends all the same. Afterwards Config.Heard is not
// called any more.
func (r *Room) Leave(ctx context.Context) error { return nil }
