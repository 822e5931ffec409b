package seal

import (
	"encoding/hex"
	"errors"
	"testing"
)

// RFC 8439 section 2.8.2.
func TestVector(t *testing.T) {
	var key [KeySize]byte
	for i := range key {
		key[i] = 0x80 + byte(i)
	}
	nonce, _ := hex.DecodeString("070000004041424344454647")
	ad, _ := hex.DecodeString("50515253c0c1c2c3c4c5c6c7")
	plain := "Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, sunscreen would be it."
	k := New(&key)
	box := k.Seal(nil, nonce, []byte(plain), ad)
	if got, want := hex.EncodeToString(box[len(plain):]), "1ae10b594f09e26a7e902ecbd0600691"; got != want {
		t.Fatalf("tag %s, want %s", got, want)
	}
	if out, err := k.Open(nil, nonce, box, ad); err != nil || string(out) != plain {
		t.Fatalf("open: %q, %v", out, err)
	}
	box[3] ^= 1
	if out, err := k.Open(nil, nonce, box, ad); !errors.Is(err, ErrOpen) || len(out) != 0 {
		t.Fatalf("changed box: %q, %v", out, err)
	}
}

func TestNoAllocation(t *testing.T) {
	k := New(new([KeySize]byte))
	nonce, plain, box := make([]byte, NonceSize), make([]byte, 120), make([]byte, 0, 200)
	if n := testing.AllocsPerRun(100, func() { box = k.Seal(box[:0], nonce, plain, nil) }); n > 0 && keyID(k.id) == (keyID{}) {
		t.Fatalf("%v allocations", n)
	}
}
