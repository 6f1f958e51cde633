package iam

import (
	"context"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/plimsoll-project/plimsoll/controlplane/model"
	"github.com/plimsoll-project/plimsoll/controlplane/store"
	pb "github.com/plimsoll-project/plimsoll/proto/plimsoll/v1"
)

// ErrWrongSealKey says that the seal key does not open the stored authority.
var ErrWrongSealKey = errors.New("the seal key does not open the stored authority's key: use the seal key file of the replica that made it")

var authorityKey = model.Key{Kind: model.KindAuthority, ID: "root"}

// LoadOrCreate answers the authority in the store, or makes one and stores it;
// of replicas that start at once, one's is taken by all. Its private key is
// sealed under the key in sealKeyFile (32 bytes, mode 0600), which is made if
// there is neither it nor an authority.
func LoadOrCreate(ctx context.Context, s store.Store, sealKeyFile string, now func() time.Time) (*Authority, error) {
	row := s.Snapshot().Authority()
	seal, err := sealKey(sealKeyFile, row.Value == nil)
	if err != nil {
		return nil, err
	}
	if row.Value != nil {
		return open(row.Value, seal, now)
	}
	a, err := NewAuthority(now)
	if err != nil {
		return nil, err
	}
	record, err := a.record(seal)
	if err != nil {
		return nil, err
	}
	rev, err := s.Commit(ctx, model.Batch{{Key: authorityKey, Value: record}})
	switch {
	case errors.Is(err, store.ErrConflict):
		snap, err := s.After(ctx, s.Snapshot().Revision)
		for err == nil && snap.Authority().Value == nil {
			snap, err = s.After(ctx, snap.Revision+1)
		}
		if err != nil {
			return nil, fmt.Errorf("wait for the other replica's authority: %w", err)
		}
		return open(snap.Authority().Value, seal, now)
	case err != nil:
		return nil, fmt.Errorf("store the authority: %w", err)
	}
	_, err = s.After(ctx, rev)
	return a, err
}

func (a *Authority) record(seal cipher.AEAD) (*pb.AuthorityRecord, error) {
	der, err := x509.MarshalPKCS8PrivateKey(a.key)
	if err != nil {
		return nil, fmt.Errorf("encode the authority's key: %w", err)
	}
	return &pb.AuthorityRecord{
		Certificate: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw}),
		SealedKey:   sealed(seal, der), SealedRegistryKey: sealed(seal, a.registryKey),
	}, nil
}

func open(r *pb.AuthorityRecord, seal cipher.AEAD, now func() time.Time) (*Authority, error) {
	block, _ := pem.Decode(r.GetCertificate())
	if block == nil {
		return nil, errors.New("the stored authority's certificate is not PEM")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("the stored authority's certificate: %w", err)
	}
	der, err := unsealed(seal, r.GetSealedKey())
	if err != nil {
		return nil, err
	}
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, fmt.Errorf("the stored authority's key: %w", err)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, errors.New("the stored authority's key cannot sign")
	}
	registryKey, err := unsealed(seal, r.GetSealedRegistryKey())
	if err != nil {
		return nil, err
	}
	return &Authority{cert: cert, key: signer, registryKey: registryKey, now: now}, nil
}

func sealKey(file string, create bool) (cipher.AEAD, error) {
	key, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) && create {
		key = make([]byte, 32)
		_, _ = rand.Read(key) // never fails
		err = writeNew(file, key)
	}
	if err != nil {
		return nil, fmt.Errorf("seal key: %w", err)
	}
	if len(key) != 32 {
		return nil, fmt.Errorf("seal key file %s has %d bytes, want 32", file, len(key))
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

func sealed(seal cipher.AEAD, plain []byte) []byte {
	nonce := make([]byte, seal.NonceSize())
	_, _ = rand.Read(nonce) // never fails
	return seal.Seal(nonce, nonce, plain, nil)
}

func unsealed(seal cipher.AEAD, b []byte) ([]byte, error) {
	if len(b) < seal.NonceSize() {
		return nil, ErrWrongSealKey
	}
	plain, err := seal.Open(nil, b[:seal.NonceSize()], b[seal.NonceSize():], nil)
	if err != nil {
		return nil, ErrWrongSealKey
	}
	return plain, nil
}

// writeNew puts a private file in place at once, and on disk.
func writeNew(file string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(file), ".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), file)
}

// WriteAdmin writes credentials for `plim` into dir: ca.crt, admin.crt and
// admin.key, for the user admin and a year. They are new at each call.
func (a *Authority) WriteAdmin(dir string) error {
	c, err := a.IssueUser("admin", 365*24*time.Hour)
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		return err
	}
	for name, block := range map[string]*pem.Block{
		"ca.crt":    {Type: "CERTIFICATE", Bytes: a.cert.Raw},
		"admin.crt": {Type: "CERTIFICATE", Bytes: c.Certificate[0]},
		"admin.key": {Type: "PRIVATE KEY", Bytes: der},
	} {
		if err := writeNew(filepath.Join(dir, name), pem.EncodeToMemory(block)); err != nil {
			return fmt.Errorf("write the administrator's %s: %w", name, err)
		}
	}
	return nil
}
