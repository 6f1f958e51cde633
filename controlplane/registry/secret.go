package registry

import (
	"crypto/rand"
	"encoding/hex"
	"os"
	"path/filepath"
)

// uploadSecret signs the state of uploads that clients carry between requests;
// it is kept, so that an upload survives a restart.
func uploadSecret(dir string) (string, error) {
	file := filepath.Join(dir, ".upload-secret")
	if b, err := os.ReadFile(file); err == nil && len(b) == 64 {
		return string(b), nil
	}
	raw := make([]byte, 32)
	_, _ = rand.Read(raw) // never fails
	secret := hex.EncodeToString(raw)
	return secret, os.WriteFile(file, []byte(secret), 0o600)
}
