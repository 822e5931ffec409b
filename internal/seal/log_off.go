//go:build !noncelog

package seal

type keyID struct{}

func idOf(*[KeySize]byte) keyID { return keyID{} }

func record(keyID, []byte) {}
