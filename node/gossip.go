package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"

	"teahouse/internal/mesh"
)

// Gossip scoring (libp2p specs, gossipsub v1.1): by behaviour alone. The
// scores for mesh delivery are left out, because they punish quiet members.
const (
	gossipBelow   = -10 // no gossip with peers below
	publishBelow  = -40 // no messages to peers below
	graylistBelow = -80 // nothing taken from peers below

	// sameIPFree is how many peers of one address cost nothing.
	sameIPFree = 24

	subscriptionBuffer = 64 // messages, then the newest is dropped

	// maxRPC is the longest message between two neighbours, bytes.
	maxRPC = mesh.MaxMessage
	// seenFor is how long the ids of messages are kept. A message comes by
	// all its ways within seconds; what the ids cost is what a flood can make us
	// keep.
	seenFor = 30 * time.Second
)

func newGossip(ctx context.Context, h host.Host, n Network, filter *topicFilter, standing *standing, g *guard) (*pubsub.PubSub, error) {
	id := gossipProtocol(n)
	ps, err := pubsub.NewGossipSub(ctx, h,
		pubsub.WithLogger(slog.New(slog.DiscardHandler)), // as in logs.go
		pubsub.WithGossipSubProtocols([]protocol.ID{id}, gossipFeatures),
		pubsub.WithMessageSignaturePolicy(pubsub.StrictSign),
		pubsub.WithMaxMessageSize(maxRPC),
		pubsub.WithSeenMessagesTTL(seenFor),
		pubsub.WithAppSpecificRpcInspector(g.inspect),
		pubsub.WithMaxControlMessageSize(64<<10),
		pubsub.WithPeerExchange(false),
		pubsub.WithSubscriptionFilter(filter),
		pubsub.WithRawTracer(filter),
		pubsub.WithPeerScore(&pubsub.PeerScoreParams{
			AppSpecificScore:            standing.score, // P5
			AppSpecificWeight:           1,
			IPColocationFactorWeight:    -5, // P6
			IPColocationFactorThreshold: sameIPFree,
			IPColocationFactorWhitelist: privateNets(),
			BehaviourPenaltyWeight:      -10, // P7
			BehaviourPenaltyThreshold:   6,
			BehaviourPenaltyDecay:       pubsub.ScoreParameterDecay(10 * time.Minute),
			DecayInterval:               time.Second,
			DecayToZero:                 0.01,
			RetainScore:                 time.Hour,
		}, &pubsub.PeerScoreThresholds{
			GossipThreshold: gossipBelow, PublishThreshold: publishBelow, GraylistThreshold: graylistBelow,
		}),
	)
	if err != nil {
		return nil, fmt.Errorf("start gossip: %w", err)
	}
	return ps, nil
}

func gossipProtocol(n Network) protocol.ID {
	return protocol.ID("/teahouse/" + n.ID + "/meshsub/1.2.0")
}

// gossipFeatures are those of version 1.2, less peer exchange: nobody is sent
// to strangers.
func gossipFeatures(f pubsub.GossipSubFeature, _ protocol.ID) bool {
	return f == pubsub.GossipSubFeatureMesh || f == pubsub.GossipSubFeatureIdontwant
}

// privateNets are where one address says nothing about one owner.
func privateNets() []*net.IPNet {
	var out []*net.IPNet
	for _, s := range []string{"127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16", "::1/128", "fc00::/7", "fe80::/10"} {
		_, n, err := net.ParseCIDR(s)
		if err != nil {
			panic(err) // constants
		}
		out = append(out, n)
	}
	return out
}

// topic is a joined gossip topic. Its one goroutine hands messages to deliver.
type topic struct {
	node   *Node
	name   string
	handle *pubsub.Topic
	sub    *pubsub.Subscription
	cancel context.CancelFunc
	ended  chan struct{}
	once   sync.Once
}

// Join subscribes to a topic.
func (n *Node) Join(name string, validate mesh.Validator, deliver func(mesh.PeerID, []byte)) (mesh.Topic, error) {
	if n.ctx.Err() != nil {
		return nil, mesh.ErrClosed
	}
	if err := n.topics.allow(name); err != nil {
		return nil, fmt.Errorf("join topic: %w", err)
	}
	t, err := n.join(name, validate, deliver)
	if err != nil {
		n.topics.disallow(name)
		return nil, fmt.Errorf("join topic: %w", err)
	}
	return t, nil
}

func (n *Node) join(name string, validate mesh.Validator, deliver func(mesh.PeerID, []byte)) (*topic, error) {
	self := n.host.ID()
	check := func(_ context.Context, via peer.ID, m *pubsub.Message) pubsub.ValidationResult {
		from := m.GetFrom()
		if from == self {
			if via == self {
				return pubsub.ValidationAccept
			}
			return pubsub.ValidationIgnore
		}
		verdict := mesh.Reject
		if len(m.GetData()) <= mesh.MaxBroadcast && validPeer(from) {
			verdict = validate(mesh.PeerID(from), m.GetData())
		}
		switch verdict {
		case mesh.Accept:
			return pubsub.ValidationAccept
		case mesh.Ignore:
			return pubsub.ValidationIgnore
		default:
			n.Penalise(mesh.PeerID(via), "invalid broadcast")
			n.shedIfShunned(via)
			return pubsub.ValidationReject
		}
	}
	if err := n.gossip.RegisterTopicValidator(name, check, pubsub.WithValidatorInline(true)); err != nil {
		return nil, err
	}
	handle, err := n.gossip.Join(name)
	if err != nil {
		return nil, errors.Join(err, n.gossip.UnregisterTopicValidator(name))
	}
	sub, err := handle.Subscribe(pubsub.WithBufferSize(subscriptionBuffer))
	if err != nil {
		return nil, errors.Join(err, handle.Close(), n.gossip.UnregisterTopicValidator(name))
	}
	ctx, cancel := context.WithCancel(n.ctx)
	t := &topic{node: n, name: name, handle: handle, sub: sub, cancel: cancel, ended: make(chan struct{})}
	if !n.goTracked(func() {
		defer close(t.ended)
		for {
			m, err := sub.Next(ctx)
			if err != nil {
				return
			}
			if m.GetFrom() != self {
				deliver(mesh.PeerID(m.GetFrom()), m.GetData())
			}
		}
	}) {
		close(t.ended)
		return nil, errors.Join(mesh.ErrClosed, t.Close())
	}
	return t, nil
}

// Publish sends data to whoever is subscribed.
func (t *topic) Publish(data []byte) error {
	if len(data) > mesh.MaxBroadcast {
		return mesh.ErrTooLarge
	}
	err := t.handle.Publish(t.node.ctx, bytes.Clone(data)) // gossip keeps what it is given
	if errors.Is(err, pubsub.ErrTopicClosed) || t.node.ctx.Err() != nil {
		return mesh.ErrClosed
	}
	return err
}

// Close leaves the topic and waits for its callbacks.
func (t *topic) Close() error {
	var err error
	t.once.Do(func() {
		t.cancel()
		t.sub.Cancel()
		<-t.ended
		err = errors.Join(t.handle.Close(), t.node.gossip.UnregisterTopicValidator(t.name))
		t.node.topics.disallow(t.name)
		if t.node.ctx.Err() != nil {
			err = nil // gossip has gone with the node
		}
	})
	<-t.ended
	return err
}
