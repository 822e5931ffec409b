package node

import "errors"

// framing follows the messages in a stream of length (uvarint) and bytes, as
// gossip and the DHT write them, without keeping any. libp2p's readers take
// memory for a message of up to 4 MiB as soon as its length has come; framing
// sees the length before they do.
type framing struct {
	limit  uint64 // of one message, bytes
	left   uint64 // of the message that flows
	length uint64 // as far as it is read
	shift  uint
}

var errFrame = errors.New("a message of no allowed length")

// feed takes the next bytes and tells how many messages begin in them.
func (f *framing) feed(b []byte) (messages int, err error) {
	for len(b) > 0 {
		if f.left > 0 {
			n := min(f.left, uint64(len(b)))
			f.left -= n
			b = b[n:]
			continue
		}
		c := b[0]
		b = b[1:]
		if f.shift > 28 { // more than 32 bits are no length
			return messages, errFrame
		}
		f.length |= uint64(c&0x7f) << f.shift
		f.shift += 7
		if f.length > f.limit {
			return messages, errFrame
		}
		if c&0x80 != 0 {
			continue
		}
		messages++
		f.left, f.length, f.shift = f.length, 0, 0
	}
	return messages, nil
}
