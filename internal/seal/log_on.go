//go:build noncelog

package seal

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"sync"
)

type keyID [16]byte

func idOf(key *[KeySize]byte) keyID {
	h := sha256.Sum256(append([]byte("teahouse nonce log"), key[:]...))
	return keyID(h[:16])
}

// nonceLog is a file of lines "key-hash nonce", appended with one write each,
// so that several processes and a kill -9 leave whole lines.
var nonceLog = sync.OnceValue(func() *os.File {
	name := os.Getenv("TEAHOUSE_NONCE_LOG")
	if name == "" {
		return nil
	}
	f, err := os.OpenFile(name, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		panic(fmt.Sprintf("nonce log: %v", err))
	}
	return f
})

func record(id keyID, nonce []byte) {
	if f := nonceLog(); f != nil {
		if _, err := f.WriteString(hex.EncodeToString(id[:]) + " " + hex.EncodeToString(nonce) + "\n"); err != nil {
			panic(fmt.Sprintf("nonce log: %v", err))
		}
	}
}
