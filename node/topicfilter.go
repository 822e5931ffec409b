package node

import (
	"fmt"
	"sync"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"

	"teahouse/internal/mesh"
)

// topicFilter says which subscriptions gossip keeps in mind: of ours, those
// joined here; of a peer, those to our topics, and a bounded number of others,
// because a peer says only once what it is subscribed to, often before we join
// the same. The library's own limit is per message, so a peer could fill the
// memory with many.
type topicFilter struct {
	mu      sync.Mutex
	allowed map[string]bool
	others  map[peer.ID]map[string]bool // topics not ours, by peer
}

const (
	// maxOthers is how many topics that are not ours one peer may have: 16
	// rooms, three days each, and some to spare.
	maxOthers = 64
	// maxTopicLen is the longest topic name. Ours have 52 bytes.
	maxTopicLen = 64
	// maxSubsPerRPC bounds the work of one message.
	maxSubsPerRPC = 256
)

var (
	_ pubsub.SubscriptionFilter = (*topicFilter)(nil)
	_ pubsub.RawTracer          = (*topicFilter)(nil)
)

func newTopicFilter() *topicFilter {
	return &topicFilter{allowed: make(map[string]bool), others: make(map[peer.ID]map[string]bool)}
}

// allow makes a topic one of ours.
func (f *topicFilter) allow(name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case name == "" || len(name) > maxTopicLen:
		return fmt.Errorf("topic name of %d bytes", len(name))
	case f.allowed[name]:
		return fmt.Errorf("joined already")
	case len(f.allowed) >= maxTopics:
		return mesh.ErrBusy
	}
	f.allowed[name] = true
	return nil
}

func (f *topicFilter) disallow(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.allowed, name)
}

// CanSubscribe is asked for our own subscriptions.
func (f *topicFilter) CanSubscribe(name string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.allowed[name]
}

// FilterIncomingSubscriptions is asked for those of peers.
func (f *topicFilter) FilterIncomingSubscriptions(from peer.ID, subs []*pb.RPC_SubOpts) ([]*pb.RPC_SubOpts, error) {
	if len(subs) > maxSubsPerRPC {
		return nil, pubsub.ErrTooManySubscriptions
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return pubsub.FilterSubscriptions(f.bounded(from, subs), func(string) bool { return true }), nil
}

// bounded leaves out what goes beyond a peer's bound. mu must be held.
func (f *topicFilter) bounded(from peer.ID, subs []*pb.RPC_SubOpts) []*pb.RPC_SubOpts {
	out := make([]*pb.RPC_SubOpts, 0, len(subs))
	for _, s := range subs {
		name := s.GetTopicid()
		if len(name) > maxTopicLen {
			continue
		}
		theirs := f.others[from]
		switch {
		case !s.GetSubscribe():
			delete(theirs, name)
			if len(theirs) == 0 {
				delete(f.others, from)
			}
		case f.allowed[name], theirs[name]:
		case len(theirs) >= maxOthers:
			continue
		default:
			if theirs == nil {
				theirs = make(map[string]bool)
				f.others[from] = theirs
			}
			theirs[name] = true
		}
		out = append(out, s)
	}
	return out
}

// OnClosedOutboundStream comes when gossip forgets a peer, and its topics.
func (f *topicFilter) OnClosedOutboundStream(p peer.ID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.others, p)
}

// The rest of the tracer is not of interest.

func (*topicFilter) OnNewOutboundStream(peer.ID, protocol.ID)             {}
func (*topicFilter) Join(string)                                          {}
func (*topicFilter) Leave(string)                                         {}
func (*topicFilter) Graft(peer.ID, string)                                {}
func (*topicFilter) Prune(peer.ID, string)                                {}
func (*topicFilter) ValidateMessage(*pubsub.Message)                      {}
func (*topicFilter) DeliverMessage(*pubsub.Message)                       {}
func (*topicFilter) RejectMessage(*pubsub.Message, string)                {}
func (*topicFilter) DuplicateMessage(*pubsub.Message)                     {}
func (*topicFilter) ThrottlePeer(peer.ID)                                 {}
func (*topicFilter) RecvRPC(*pubsub.RPC)                                  {}
func (*topicFilter) SendRPC(*pubsub.RPC, peer.ID)                         {}
func (*topicFilter) SendRPCCompleted(*pubsub.RPC, peer.ID, time.Duration) {}
func (*topicFilter) DropRPC(*pubsub.RPC, peer.ID)                         {}
func (*topicFilter) UndeliverableMessage(*pubsub.Message)                 {}
