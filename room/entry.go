package room

import (
	"cmp"
	"crypto/ed25519"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"teahouse/internal/mesh"
)

// Flags of an entry. Others are kept and signed, and mean nothing yet.
const (
	entryListenOnly     = 1
	entryHand           = 2
	entryRecording      = 4
	entryAllowRecording = 8
	entryMuted          = 16
	entryLeaving        = 32
)

// entry is what a member shows of itself in the roster. Its bytes:
//
//	member key 32 ‖ L(peer id) ‖ instance u64 ‖ salt 16 ‖ sequence u64 ‖ flags u16
//	‖ voice key 32 ‖ voice epoch 16 ‖ L(nick) ‖ member signature 64 ‖ host signature 64
//
// An entry that came from elsewhere says nothing until verify has passed, and
// is believed only for the peer id that it names.
type entry struct {
	Member   Member
	Peer     mesh.PeerID
	Instance uint64
	Salt     salt
	Sequence uint64
	Flags    uint16
	// VoiceKey signs bundles within the epoch that VoiceEpoch names; both are
	// zeros for none. It is bound to one epoch because its private half is
	// published when that epoch has ended.
	VoiceKey   [ed25519.PublicKeySize]byte
	VoiceEpoch epochID
	Nick       string
	MemberSig  signature
	HostSig    signature
}

// maxEntry is the longest entry in bytes.
const maxEntry = 32 + 2 + mesh.PeerIDLen + 8 + 16 + 8 + 2 + 32 + 16 + 2 + MaxNick + 64 + 64

// newer tells whether e counts before old, an entry of the same member.
func (e *entry) newer(old *entry) bool {
	return cmp.Or(cmp.Compare(e.Instance, old.Instance), cmp.Compare(e.Sequence, old.Sequence)) > 0
}

// sign sets Member and both signatures. host signs with the key of e.Peer:
// mesh.Network's SignAsHost.
func (e *entry) sign(room ID, key ed25519.PrivateKey, host func(context string, message []byte) ([]byte, error)) error {
	if err := CheckNick(e.Nick); err != nil {
		return err
	}
	e.Member = memberOf(key)
	body := e.appendSigned(room[:len(room):len(room)])
	e.MemberSig = sign(key, contextEntry, body)
	s, err := host(contextEntryHost, body)
	if err != nil {
		return fmt.Errorf("sign roster entry: %w", err)
	}
	if len(s) != len(e.HostSig) {
		return fmt.Errorf("sign roster entry: %w", errSignature)
	}
	e.HostSig = signature(s)
	return nil
}

// verify checks both signatures and the nickname. It costs two verifications,
// about 80 µs.
func (e *entry) verify(room ID) error {
	if err := CheckNick(e.Nick); err != nil {
		return err
	}
	body := e.appendSigned(room[:len(room):len(room)])
	if !verify((*[32]byte)(&e.Member), contextEntry, body, &e.MemberSig) ||
		!e.Peer.Verify(contextEntryHost, body, e.HostSig[:]) {
		return errSignature
	}
	return nil
}

// append appends the bytes of e.
func (e *entry) append(dst []byte) []byte {
	dst = e.appendSigned(dst)
	dst = append(dst, e.MemberSig[:]...)
	return append(dst, e.HostSig[:]...)
}

// appendMessage appends the message ENTRY, kind byte included.
func (e *entry) appendMessage(dst []byte) []byte { return e.append(append(dst, kindEntry)) }

// appendSigned appends what the signatures cover, less the room id.
func (e *entry) appendSigned(dst []byte) []byte {
	dst = append(dst, e.Member[:]...)
	dst = appendLP(dst, string(e.Peer))
	dst = be.AppendUint64(dst, e.Instance)
	dst = append(dst, e.Salt[:]...)
	dst = be.AppendUint64(dst, e.Sequence)
	dst = be.AppendUint16(dst, e.Flags)
	dst = append(dst, e.VoiceKey[:]...)
	dst = append(dst, e.VoiceEpoch[:]...)
	return appendLP(dst, e.Nick)
}

// decodeEntry reads an entry off the front of data and gives what follows. It
// does not verify.
func decodeEntry(data []byte) (e entry, rest []byte, err error) {
	r := reader{b: data}
	r.into(e.Member[:])
	peer := r.lp(mesh.PeerIDLen, mesh.PeerIDLen)
	e.Instance = r.u64()
	r.into(e.Salt[:])
	e.Sequence = r.u64()
	e.Flags = r.u16()
	r.into(e.VoiceKey[:])
	r.into(e.VoiceEpoch[:])
	nick := r.lp(0, MaxNick)
	r.into(e.MemberSig[:])
	r.into(e.HostSig[:])
	if r.bad {
		return entry{}, nil, errMalformed
	}
	if e.Peer, err = mesh.ParsePeerID(peer); err != nil {
		return entry{}, nil, errMalformed
	}
	e.Nick = string(nick)
	if CheckNick(e.Nick) != nil {
		return entry{}, nil, errMalformed
	}
	return e, r.b, nil
}

// CheckNick tells what is wrong with a nickname: it may be empty, else it is
// at most MaxNick bytes of UTF-8 that show something, without control
// characters, line breaks, direction marks or other invisible characters
// (joiners excepted, which scripts and emoji need), and no white space but
// single spaces within.
func CheckNick(nick string) error {
	switch {
	case nick == "":
		return nil
	case len(nick) > MaxNick:
		return fmt.Errorf("nickname is longer than %d bytes", MaxNick)
	case !utf8.ValidString(nick):
		return errors.New("nickname is not valid UTF-8")
	case nick != strings.Join(strings.Fields(nick), " "):
		return errors.New("nickname has white space at its ends, or other than single spaces")
	}
	shows := false
	for _, r := range nick {
		switch {
		case r == 0x200C || r == 0x200D || r == 0xFE0E || r == 0xFE0F: // joiners, text or emoji style
		case unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || ignorable(r):
			return errors.New("nickname has control or invisible characters")
		case unicode.In(r, unicode.L, unicode.N, unicode.P, unicode.S) && r != 0x2800: // braille blank
			shows = true
		}
	}
	if !shows {
		return errors.New("nickname shows nothing")
	}
	return nil
}
