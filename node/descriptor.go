package node

import (
	"crypto"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"teahouse/internal/mesh"
)

// Why a descriptor is refused.
var (
	// ErrMalformed: the bytes are no descriptor, or one that breaks a rule.
	ErrMalformed = errors.New("not a network descriptor")
	// ErrForged: the signature is not that of the root key it names.
	ErrForged = errors.New("the signature of the network descriptor is false")
	// ErrExpired: the time until which the root key signed is over.
	ErrExpired = errors.New("the network descriptor has expired")
	// ErrRolledBack: what would replace a descriptor is not newer.
	ErrRolledBack = errors.New("the network descriptor is no newer revision")
	// ErrOtherNetwork: what would replace a descriptor is another network's.
	ErrOtherNetwork = errors.New("the descriptor is of another network")
)

// Limits of a descriptor (docs/protocol.md section 7).
const (
	MaxDescriptor = 16 << 10 // bytes of a document
	MaxBootstraps = 16
	MaxRelays     = 16
	MaxRevoked    = 64
	MaxPolicy     = 4096 // bytes of text

	maxNodeAddrs   = 8
	maxAddrLen     = 64
	maxNetworkName = 64
	maxRest        = 4096
	maxRevision    = 1<<63 - 1
	maxUnixTime    = 1 << 40
)

const descriptorContext = "teahouse/descriptor/1"

// Descriptor is what a community signs about its network. Who holds it is a
// member of the network: it bears the network secret. The fields are not to be
// changed once it is signed or parsed.
type Descriptor struct {
	Root     ed25519.PublicKey
	Revision uint64
	Issued   time.Time // whole seconds
	Expires  time.Time // whole seconds
	Secret   [32]byte
	Name     string

	Bootstraps []NamedNode
	Relays     []RelayTicket
	// Revoked are bootstraps and relays of before with which no packet is to be
	// exchanged any more.
	Revoked []mesh.PeerID
	// Policy are the network's defaults, text as in policy.toml.
	Policy string

	rest   []byte // of a later version: kept, not read
	signed []byte // the document, once signed or parsed
}

// RelayTicket lets a node relay for the network.
type RelayTicket struct {
	NamedNode
	Expires time.Time // whole seconds
}

// NetworkID is the id of the network of a root key.
func NetworkID(root ed25519.PublicKey) string {
	sum := sha256.Sum256(root)
	return lowerBase32.EncodeToString(sum[:16])
}

// ID is the network's.
func (d *Descriptor) ID() string { return NetworkID(d.Root) }

// Network is what a node needs of it.
func (d *Descriptor) Network() Network { return Network{ID: d.ID(), Secret: d.Secret} }

// Peers are the multiaddrs of the bootstraps, with /p2p/.
func (d *Descriptor) Peers() []string {
	var out []string
	for _, b := range d.Bootstraps {
		out = append(out, b.Multiaddrs()...)
	}
	return out
}

// Format prints the id and the revision alone, whatever the verb.
func (d *Descriptor) Format(f fmt.State, _ rune) {
	_, _ = fmt.Fprintf(f, "descriptor %s revision %d", d.ID(), d.Revision)
}

// LogValue is as Format.
func (d *Descriptor) LogValue() slog.Value { return slog.StringValue(fmt.Sprint(d)) }

// CheckTime is ErrExpired once the descriptor has.
func (d *Descriptor) CheckTime(now time.Time) error {
	if !now.Before(d.Expires) {
		return fmt.Errorf("%w (on %s)", ErrExpired, d.Expires.UTC().Format("2 January 2006"))
	}
	return nil
}

// Replaces is nil if d may take the place of old: the same network's, a higher
// revision, not expired. Both must have been parsed, or signed, before.
func (d *Descriptor) Replaces(old *Descriptor, now time.Time) error {
	switch {
	case !d.Root.Equal(old.Root):
		return ErrOtherNetwork
	case d.Secret != old.Secret:
		return fmt.Errorf("%w: its secret differs", ErrOtherNetwork)
	case d.Revision <= old.Revision:
		return fmt.Errorf("%w: %d, and %d is known", ErrRolledBack, d.Revision, old.Revision)
	}
	return d.CheckTime(now)
}

// Sign checks d, makes root its root key, and signs it.
func (d *Descriptor) Sign(root ed25519.PrivateKey) error {
	d.Root = root.Public().(ed25519.PublicKey)
	if err := d.check(); err != nil {
		return err
	}
	body := d.body()
	if len(body)+ed25519.SignatureSize > MaxDescriptor {
		return fmt.Errorf("%w: %d bytes, at most %d fit", ErrMalformed, len(body)+ed25519.SignatureSize, MaxDescriptor)
	}
	sig, err := root.Sign(nil, body, &ed25519.Options{Hash: crypto.Hash(0), Context: descriptorContext})
	if err != nil {
		return fmt.Errorf("sign the network descriptor: %w", err)
	}
	d.signed = append(body, sig...)
	return nil
}

// Revise is a copy to be changed and signed: the next revision, issued now.
func (d *Descriptor) Revise(now time.Time) *Descriptor {
	n := *d
	n.Revision++
	n.Issued = now.Truncate(time.Second)
	n.Bootstraps, n.Relays, n.Revoked = slices.Clone(d.Bootstraps), slices.Clone(d.Relays), slices.Clone(d.Revoked)
	n.rest, n.signed = slices.Clone(d.rest), nil
	return &n
}

// check holds d against the rules of the protocol, but for its signature.
func (d *Descriptor) check() error {
	wrong := func(what string) error { return fmt.Errorf("%w: %s", ErrMalformed, what) }
	issued, expires := d.Issued.Unix(), d.Expires.Unix()
	switch {
	case len(d.Root) != ed25519.PublicKeySize:
		return wrong("no root key")
	case d.Revision == 0 || d.Revision > maxRevision:
		return wrong("a revision out of range")
	case issued < 0 || expires <= issued || expires >= maxUnixTime:
		return wrong("times out of order")
	case len(d.Bootstraps) > MaxBootstraps:
		return wrong(fmt.Sprintf("more than %d bootstraps", MaxBootstraps))
	case len(d.Relays) > MaxRelays:
		return wrong(fmt.Sprintf("more than %d relays", MaxRelays))
	case len(d.Revoked) > MaxRevoked:
		return wrong(fmt.Sprintf("more than %d revoked nodes", MaxRevoked))
	case len(d.Policy) > MaxPolicy || !utf8.ValidString(d.Policy) || strings.ContainsRune(d.Policy, 0):
		return wrong(fmt.Sprintf("a policy that is no text of at most %d bytes", MaxPolicy))
	case len(d.rest) > maxRest:
		return wrong("too much of a later version")
	}
	if err := CheckDescriptorName(d.Name); err != nil {
		return wrong(err.Error())
	}
	return d.checkNodes()
}

func (d *Descriptor) checkNodes() error {
	revoked := make(map[mesh.PeerID]bool, len(d.Revoked))
	for _, p := range d.Revoked {
		if _, err := mesh.ParsePeerID([]byte(p)); err != nil || revoked[p] {
			return fmt.Errorf("%w: a revoked node without a key, or one that stands twice", ErrMalformed)
		}
		revoked[p] = true
	}
	var relays []NamedNode
	for _, r := range d.Relays {
		if t := r.Expires.Unix(); t < 0 || t >= maxUnixTime {
			return fmt.Errorf("%w: the time of a relay's ticket is out of range", ErrMalformed)
		}
		relays = append(relays, r.NamedNode)
	}
	for _, list := range [][]NamedNode{d.Bootstraps, relays} {
		seen := make(map[mesh.PeerID]bool, len(list))
		for _, n := range list {
			if err := n.check(); err != nil {
				return err
			}
			if seen[n.Peer] || revoked[n.Peer] {
				return fmt.Errorf("%w: a node stands twice, or is named and revoked", ErrMalformed)
			}
			seen[n.Peer] = true
		}
	}
	return nil
}

// CheckDescriptorName is nil if a network with a descriptor may have the name.
func CheckDescriptorName(name string) error {
	switch {
	case name == "" || len(name) > maxNetworkName:
		return fmt.Errorf("the name has %d bytes; 1 to %d are possible", len(name), maxNetworkName)
	case !utf8.ValidString(name) || strings.ContainsFunc(name, func(r rune) bool { return r != ' ' && !unicode.IsGraphic(r) || dropIgnorable(r) < 0 }):
		return errors.New("the name has characters that do not show")
	case strings.Join(strings.Fields(name), " ") != name:
		return errors.New("the name has white space beyond single spaces between words")
	case name[0] == '-':
		return errors.New("the name begins with a hyphen")
	}
	normal, err := NormaliseNetworkName(name)
	if err != nil {
		return err
	}
	if normal == LANName || IsNetworkID(normal) {
		return fmt.Errorf("the name %q has a meaning of its own", normal)
	}
	return nil
}

// IsNetworkID tells whether a text looks like a network's id.
func IsNetworkID(text string) bool {
	b, err := lowerBase32.DecodeString(text)
	return err == nil && len(b) == 16
}
