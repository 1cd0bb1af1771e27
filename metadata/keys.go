package metadata

import (
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/brigd/brig/internal/errs"
)

const (
	secretSize = 64 // bytes of each secret
	maxRetired = 16 // keys that are kept for old signatures; each costs a verification that fails
)

// Keys are an instance's secrets. They are what a pod's token and signatures are made with; whoever has them can speak as any pod.
type Keys struct {
	Token []byte // tokens of pods; for ever, since those that run have theirs
	Sign  []Key  // the first signs, the others verify what they have signed
}

// Key signs for all pods: by HMAC-SHA512 with a key of each pod's own, and by Ed25519.
type Key struct {
	Made   time.Time
	Until  time.Time `json:",omitzero"` // it verifies no more from then on; zero: it signs
	Secret []byte
}

func newSecret() []byte {
	b := make([]byte, secretSize)
	_, _ = rand.Read(b) // it never fails (crypto/rand)
	return b
}

// MakeKeys makes new ones.
func MakeKeys() *Keys {
	return &Keys{Token: newSecret(), Sign: []Key{{Made: time.Now().UTC(), Secret: newSecret()}}}
}

// LoadKeys reads the keys in the file, or makes it, with mode 0400.
func LoadKeys(path string) (*Keys, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		k := MakeKeys()
		return k, k.save(path)
	}
	if err != nil {
		return nil, errs.Wrap(err, "read the metadata service's keys")
	}
	var k Keys
	if err := json.Unmarshal(b, &k); err != nil {
		return nil, errs.Wrap(err, "keys of the metadata service in %s", path)
	}
	return &k, errs.Wrap(k.check(), "keys of the metadata service in %s", path)
}

func (k *Keys) check() error {
	short := func(x Key) bool { return len(x.Secret) < secretSize }
	if len(k.Token) < secretSize || len(k.Sign) == 0 || slices.ContainsFunc(k.Sign, short) {
		return errs.New(errs.Invalid, "a key is missing or short")
	}
	return nil
}

// save replaces the file; it is there as a whole, or as it was.
func (k *Keys) save(path string) error {
	b, err := json.Marshal(k)
	if err != nil {
		return err
	}
	tmp := path + ".new"
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return errs.Wrap(err, "save the metadata service's keys")
	}
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o400)
	if err != nil {
		return errs.Wrap(err, "save the metadata service's keys")
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(tmp, path)
	}
	if err == nil {
		err = syncDir(filepath.Dir(path))
	}
	return errs.Wrap(err, "save the metadata service's keys")
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// Rotated returns keys of which a new one signs. What the others have signed verifies for keep longer; those whose time is over are gone.
func (k *Keys) Rotated(keep time.Duration) *Keys {
	now := time.Now().UTC()
	next := &Keys{Token: k.Token, Sign: []Key{{Made: now, Secret: newSecret()}}}
	for _, old := range k.Sign {
		if old.Until.IsZero() {
			old.Until = now.Add(keep)
		}
		if old.Until.After(now) && len(next.Sign) <= maxRetired {
			next.Sign = append(next.Sign, old)
		}
	}
	return next
}

// valid are the keys that verify now.
func (k *Keys) valid() []Key {
	now := time.Now()
	return slices.DeleteFunc(slices.Clone(k.Sign), func(x Key) bool { return !x.Until.IsZero() && now.After(x.Until) })
}

// token is the secret part of a pod's AC_METADATA_URL: 256 bits that nobody can guess from the UUID (appc spec 0.8.11, ace.md: 128 at least).
func (k *Keys) token(uuid string) string {
	h := hmac.New(sha256.New, k.Token)
	io.WriteString(h, "brig token 1 "+uuid)
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil))
}

// isToken reports whether token is uuid's, in a time that depends on neither.
func (k *Keys) isToken(uuid, token string) bool {
	return hmac.Equal([]byte(token), []byte(k.token(uuid)))
}

// derive makes a key for one purpose of a secret (RFC 5869). Its arguments are such that it can't fail.
func derive(secret []byte, purpose string, size int) []byte {
	b, err := hkdf.Expand(sha512.New, secret, purpose, size)
	if err != nil {
		panic(err)
	}
	return b
}

// ofPod is the key that signs for a pod: nobody signs for another one.
func (k *Key) ofPod(uuid string) []byte {
	return derive(k.Secret, "brig pod hmac 1 "+uuid, sha512.Size)
}

func (k *Key) ed25519() ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(derive(k.Secret, "brig identity 1", ed25519.SeedSize))
}

// sign is the HMAC-SHA512 of content for the pod, in base64.
func (k *Keys) sign(uuid, content string) string {
	h := hmac.New(sha512.New, k.Sign[0].ofPod(uuid))
	io.WriteString(h, content)
	return base64.StdEncoding.EncodeToString(h.Sum(nil))
}

// Verify reads content to its end and reports whether signature is a pod's of it, by a key that is still valid.
func (k *Keys) Verify(uuid, signature string, content io.Reader) (bool, error) {
	want, err := base64.StdEncoding.DecodeString(signature)
	wrong := err != nil || len(want) != sha512.Size // it is no less wrong for the rest
	var macs []io.Writer
	sum := make([]interface{ Sum([]byte) []byte }, 0, len(k.Sign))
	for _, key := range k.valid() {
		h := hmac.New(sha512.New, key.ofPod(uuid))
		macs, sum = append(macs, h), append(sum, h)
	}
	if _, err := io.Copy(io.MultiWriter(macs...), content); err != nil {
		return false, errs.Wrap(err, "read what was signed")
	}
	ok := false
	for _, h := range sum {
		ok = hmac.Equal(h.Sum(nil), want) || ok
	}
	return ok && !wrong, nil
}
