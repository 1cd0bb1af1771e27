package trust

import (
	"bytes"
	"crypto"
	_ "crypto/md5" // crypto.Hash.New finds it then
	"encoding/binary"
	"encoding/hex"
	"io"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/eddsa"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

// at is when the tests' keys are made, and what their stores have for now.
var at = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func after(d time.Duration) func() time.Time { return func() time.Time { return at.Add(d) } }

// newKey makes a key pair that lasts for life (0: for ever).
func newKey(t *testing.T, name string, life time.Duration) *openpgp.Entity {
	t.Helper()
	e, err := openpgp.NewEntity(name, "", name+"@example.com", &packet.Config{Time: after(0), KeyLifetimeSecs: uint32(life / time.Second), Algorithm: packet.PubKeyAlgoEdDSA})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func public(t *testing.T, armored bool, entities ...*openpgp.Entity) []byte {
	t.Helper()
	var b bytes.Buffer
	for _, e := range entities {
		var raw bytes.Buffer
		if err := e.Serialize(&raw); err != nil {
			t.Fatal(err)
		}
		b.Write(armour(t, armored, openpgp.PublicKeyType, raw.Bytes()))
	}
	return b.Bytes()
}

func armour(t *testing.T, really bool, kind string, raw []byte) []byte {
	t.Helper()
	if !really {
		return raw
	}
	var b bytes.Buffer
	w, err := armor.Encode(&b, kind, map[string]string{"Version": "test"})
	if err != nil {
		t.Fatal(err)
	}
	w.Write(raw)
	w.Close()
	b.WriteString("\n")
	return b.Bytes()
}

type signing struct {
	hash crypto.Hash
	when time.Duration // after at
	text bool
}

// sign makes a binary detached signature.
func sign(t *testing.T, e *openpgp.Entity, data string, s signing) []byte {
	t.Helper()
	var b bytes.Buffer
	err := openpgp.DetachSignWithParams(&b, []*openpgp.Entity{e}, strings.NewReader(data), &openpgp.SignParams{TextSig: s.text,
		Config: &packet.Config{Time: after(s.when), DefaultHash: s.hash, RejectHashAlgorithms: map[crypto.Hash]bool{}, RejectMessageHashAlgorithms: map[crypto.Hash]bool{}}})
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func newStore(t *testing.T) *Store {
	s := Open(filepath.Join(t.TempDir(), "trust"))
	s.now = after(time.Hour)
	return s
}

func fingerprint(e *openpgp.Entity) string { return hex.EncodeToString(e.PrimaryKey.Fingerprint) }

func trust(t *testing.T, s *Store, prefix string, entities ...*openpgp.Entity) {
	t.Helper()
	if _, err := s.Trust(t.Context(), prefix, public(t, true, entities...)); err != nil {
		t.Fatal(err)
	}
}

// verify reads data to its end and asks for the signers of name.
func verify(s *Store, data string, sig []byte, name string) ([]brig.Signer, error) {
	v, err := s.Verify(strings.NewReader(data), sig)
	if err != nil {
		return nil, err
	}
	got, err := io.ReadAll(v)
	if err != nil || string(got) != data {
		return nil, errs.New(errs.Internal, "read %q, %v", got, err)
	}
	return v.Signers(name)
}

func TestVerify(t *testing.T) {
	const data = "the bytes of an ACI"
	alice, bob, mallory := newKey(t, "alice", 0), newKey(t, "bob", 0), newKey(t, "mallory", 0)
	short := newKey(t, "short", 2*time.Hour)
	weak, err := openpgp.NewEntity("weak", "", "", &packet.Config{Time: after(0), Algorithm: packet.PubKeyAlgoEdDSA})
	if err != nil {
		t.Fatal(err)
	}
	good := sign(t, alice, data, signing{})
	cat := func(b ...[]byte) []byte { return bytes.Join(b, nil) }
	flipped := bytes.Clone(good)
	flipped[len(flipped)-1] ^= 1
	for _, c := range []struct {
		name string
		data string // "": data
		sig  []byte
		aci  string
		now  time.Duration
		want string // fingerprint, or what the error says
	}{
		{name: "binary", sig: good, aci: "example.com/app", want: fingerprint(alice)},
		{name: "armoured", sig: armour(t, true, openpgp.SignatureType, good), aci: "example.com/app", want: fingerprint(alice)},
		{name: "deeper name", sig: good, aci: "example.com/app/x", want: fingerprint(alice)},
		{name: "any name", sig: good, want: fingerprint(alice)},
		{name: "half a component", sig: good, aci: "example.com/apple", want: "trusted for example.com/app, not for example.com/apple"},
		{name: "shorter name", sig: good, aci: "example.com", want: "not for example.com"},
		{name: "root key", sig: sign(t, bob, data, signing{}), aci: "other.org/x", want: fingerprint(bob)},
		{name: "stranger", sig: sign(t, mallory, data, signing{}), aci: "example.com/app", want: "a key that is not trusted"},
		{name: "stranger and friend", sig: cat(sign(t, mallory, data, signing{}), good), aci: "example.com/app", want: fingerprint(alice)},
		{name: "friend and stranger", sig: cat(good, sign(t, mallory, data, signing{})), aci: "example.com/app", want: fingerprint(alice)},
		{name: "two armoured blocks", sig: cat(armour(t, true, openpgp.SignatureType, sign(t, mallory, data, signing{})), armour(t, true, openpgp.SignatureType, good)),
			aci: "example.com/app", want: fingerprint(alice)},
		{name: "one bad, one for others", sig: cat(flipped, sign(t, mallory, data, signing{})), aci: "example.com/app", want: "is bad"},
		{name: "other bytes", data: data + ".", sig: good, aci: "example.com/app", want: "is bad"},
		{name: "fewer bytes", data: data[1:], sig: good, aci: "example.com/app", want: "is bad"},
		{name: "broken signature", sig: flipped, aci: "example.com/app", want: "is bad"},
		{name: "SHA-512", sig: sign(t, alice, data, signing{hash: crypto.SHA512}), aci: "example.com/app", want: fingerprint(alice)},
		{name: "text mode", sig: sign(t, alice, data, signing{text: true}), aci: "example.com/app", want: "none of a file's bytes"},
		{name: "from the future", sig: sign(t, alice, data, signing{when: 48 * time.Hour}), aci: "example.com/app", want: "is bad"},
		{name: "key is valid", sig: sign(t, short, data, signing{}), aci: "short.org/x", want: fingerprint(short)},
		{name: "key has expired since", sig: sign(t, short, data, signing{}), aci: "short.org/x", now: 3 * time.Hour, want: "expired"},
		{name: "key of another prefix", sig: sign(t, short, data, signing{}), aci: "example.com/app", want: "trusted for short.org, not for"},
		{name: "junk", sig: []byte("junk"), want: "none that can be understood"},
		{name: "empty", sig: nil, want: "none that can be understood"},
		{name: "a key instead", sig: public(t, true, alice), want: "not a PGP SIGNATURE"},
		{name: "a key instead, bare", sig: public(t, false, alice), want: "none of a file's bytes"},
		{name: "cut armour", sig: armour(t, true, openpgp.SignatureType, good)[:100], want: "broken armour"},
		{name: "many", sig: bytes.Repeat(good, maxSignatures+1), want: "more than 16"},
		{name: "long", sig: make([]byte, maxRing+1), want: "more than"},
		{name: "a subkey's owner", sig: sign(t, weak, data, signing{}), aci: "weak.org", want: fingerprint(weak)},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newStore(t)
			trust(t, s, "example.com/app", alice)
			trust(t, s, "", bob)
			trust(t, s, "short.org", short)
			trust(t, s, "weak.org", weak)
			if c.now > 0 {
				s.now = after(c.now)
			}
			d := c.data
			if d == "" {
				d = data
			}
			got, err := verify(s, d, c.sig, c.aci)
			if fingerprintRE.MatchString(c.want) {
				if err != nil || len(got) != 1 || got[0].Fingerprint != c.want || got[0].Identity == "" {
					t.Errorf("%v, %v, want %s", got, err, c.want)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.want) || !errs.Is(err, errs.Forbidden) && !errs.Is(err, errs.Invalid) {
				t.Errorf("%v, %v, want an error with %q", got, err, c.want)
			}
		})
	}
}

// mpi is a number as OpenPGP writes it (RFC 4880, section 3.2).
func mpi(b []byte) []byte {
	n := new(big.Int).SetBytes(b)
	return append(binary.BigEndian.AppendUint16(nil, uint16(n.BitLen())), n.Bytes()...)
}

// TestWeakHashes signs by hand (RFC 4880, section 5.2.3), since the library refuses to make what it shall refuse to take.
func TestWeakHashes(t *testing.T) {
	alice := newKey(t, "alice", 0)
	s := newStore(t)
	trust(t, s, "", alice)
	const data = "x"
	for _, c := range []struct {
		hash crypto.Hash
		id   byte
		good bool
	}{{crypto.SHA256, 8, true}, {crypto.SHA1, 2, false}, {crypto.MD5, 1, false}} {
		hashed := append([]byte{5, 2}, binary.BigEndian.AppendUint32(nil, uint32(at.Unix()))...)
		hashed = append(append(hashed, byte(2+len(alice.PrimaryKey.Fingerprint)), 33, 4), alice.PrimaryKey.Fingerprint...)
		head := append([]byte{4, 0, byte(alice.PrimaryKey.PubKeyAlgo), c.id, 0, byte(len(hashed))}, hashed...)
		h := c.hash.New()
		h.Write([]byte(data))
		h.Write(head)
		h.Write(append([]byte{4, 0xff, 0, 0, 0}, byte(len(head))))
		digest := h.Sum(nil)
		r, sv, err := eddsa.Sign(alice.PrivateKey.PrivateKey.(*eddsa.PrivateKey), digest)
		if err != nil {
			t.Fatal(err)
		}
		unhashed := append([]byte{9, 16}, binary.BigEndian.AppendUint64(nil, alice.PrimaryKey.KeyId)...)
		body := slices.Concat(head, []byte{0, byte(len(unhashed))}, unhashed, digest[:2], mpi(r), mpi(sv))
		got, err := verify(s, data, append([]byte{0xc2, byte(len(body))}, body...), "x")
		if (err == nil) != c.good {
			t.Errorf("%s: %v, %v", c.hash, got, err)
		}
		if err != nil && !strings.Contains(err.Error(), "insecure message hash") && !strings.Contains(err.Error(), "none that can be understood") {
			t.Errorf("%s: %v", c.hash, err)
		}
	}
}

func TestRevoked(t *testing.T) {
	alice, bob := newKey(t, "alice", 0), newKey(t, "bob", 0)
	sig := sign(t, alice, "x", signing{})
	s := newStore(t)
	trust(t, s, "", alice, bob)
	if _, err := verify(s, "x", sig, "a/b"); err != nil {
		t.Fatal(err)
	}
	// Retired after it signed: OpenPGP would still take the old signature.
	if err := alice.Revoke(packet.KeyRetired, "", &packet.Config{Time: after(30 * time.Minute)}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Trust(t.Context(), "", public(t, true, alice)); !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), "revoked") {
		t.Errorf("trust a revoked key: %v", err)
	}
	if err := os.WriteFile(filepath.Join(s.dir, "root.d", fingerprint(alice)), public(t, true, alice), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := verify(s, "x", sig, "a/b"); !errs.Is(err, errs.Forbidden) || !strings.Contains(err.Error(), "revoked") {
		t.Errorf("verify: %v, %v", got, err)
	}
	list, err := s.List(t.Context())
	if err != nil || len(list) != 2 || (list[0].Problem == "") == (list[1].Problem == "") {
		t.Errorf("%+v, %v", list, err)
	}
}

func TestStore(t *testing.T) {
	s := newStore(t)
	ctx := t.Context()
	if list, err := s.List(ctx); err != nil || len(list) != 0 {
		t.Errorf("empty: %v, %v", list, err)
	}
	alice, bob := newKey(t, "alice", 0), newKey(t, "bob\x1b[31m", 48*time.Hour)
	trust(t, s, "example.com/app", alice, bob)
	trust(t, s, "example.com/app", alice) // again
	if _, err := s.Trust(ctx, "example.com", public(t, false, alice)); err != nil {
		t.Fatal(err)
	}
	trust(t, s, "", bob)
	list, err := s.List(ctx)
	var where []string
	for _, k := range list {
		where = append(where, k.Prefix+" "+k.Fingerprint[:4])
		if k.Problem != "" || len(k.Identities) != 1 || strings.Contains(k.Identities[0], "\x1b") {
			t.Errorf("%+v", k)
		}
	}
	a, b := fingerprint(alice)[:4], fingerprint(bob)[:4]
	if b < a {
		a, b = b, a
	}
	want := " " + fingerprint(bob)[:4] + "|example.com " + fingerprint(alice)[:4] + "|example.com/app " + a + "|example.com/app " + b
	if got := strings.Join(where, "|"); err != nil || got != want {
		t.Errorf("%s, %v, want %s", got, err, want)
	}
	if !list[0].Expires.Equal(at.Add(48*time.Hour)) || !list[1].Expires.IsZero() {
		t.Errorf("expiry: %v, %v", list[0].Expires, list[1].Expires)
	}
	spaced := strings.ToUpper(fingerprint(alice)[:20] + " " + fingerprint(alice)[20:])
	if err := s.Untrust(ctx, "example.com", spaced); err != nil {
		t.Error(err)
	}
	if err := s.Untrust(ctx, "example.com", fingerprint(alice)); !errs.Is(err, errs.NotFound) {
		t.Errorf("twice: %v", err)
	}
	if list, _ = s.List(ctx); len(list) != 3 {
		t.Errorf("after untrust: %v", list)
	}
	for prefix, fp := range map[string]string{"../x": fingerprint(alice), "Example": fingerprint(alice), "example.com/app": "../../x", "example.com": "1234"} {
		if err := s.Untrust(ctx, prefix, fp); !errs.Is(err, errs.Invalid) {
			t.Errorf("untrust %s %s: %v", prefix, fp, err)
		}
		if prefix == "../x" || prefix == "Example" {
			if _, err := s.Trust(ctx, prefix, public(t, true, alice)); !errs.Is(err, errs.Invalid) {
				t.Errorf("trust %s: %v", prefix, err)
			}
		}
	}
}

func TestBadKeys(t *testing.T) {
	s := newStore(t)
	alice := newKey(t, "alice", 0)
	var private bytes.Buffer
	if err := alice.SerializePrivate(&private, nil); err != nil {
		t.Fatal(err)
	}
	rsa, err := openpgp.NewEntity("small", "", "", &packet.Config{Time: after(0), Algorithm: packet.PubKeyAlgoRSA, RSABits: 1024})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		ring []byte
		want string
	}{
		"empty":             {nil, "no OpenPGP public key"},
		"junk":              {[]byte("<html>"), "read keys"},
		"private":           {private.Bytes(), "private"},
		"private key block": {armour(t, true, openpgp.PrivateKeyType, private.Bytes()), "not a PGP PUBLIC KEY"},
		"expired":           {public(t, true, alice, newKey(t, "old", time.Minute)), "can't be trusted"},
		"short RSA":         {public(t, true, rsa), "can't be trusted"},
		"long":              {make([]byte, maxRing+1), "more than"},
	} {
		if got, err := s.Trust(t.Context(), "x", c.ring); !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, %v, want %q", name, got, err, c.want)
		}
	}
	if list, err := s.List(t.Context()); err != nil || len(list) > 0 {
		t.Errorf("kept: %v, %v", list, err)
	}
}

// TestUnsafeFiles: what others could have written is not believed, and makes nothing else pass either.
func TestUnsafeFiles(t *testing.T) {
	alice, bob := newKey(t, "alice", 0), newKey(t, "bob", 0)
	sig := sign(t, alice, "x", signing{})
	for name, spoil := range map[string]func(dir, file string) error{
		"writable file":      func(_, file string) error { return os.Chmod(file, 0o666) },
		"writable directory": func(dir, _ string) error { return os.Chmod(dir, 0o777) },
		"link": func(dir, file string) error {
			if err := os.Rename(file, dir+"/../x"); err != nil {
				return err
			}
			return os.Symlink("../x", file)
		},
		"another key":  func(_, file string) error { return os.WriteFile(file, public(t, true, bob), 0o600) },
		"two keys":     func(_, file string) error { return os.WriteFile(file, public(t, true, alice, bob), 0o600) },
		"junk":         func(_, file string) error { return os.WriteFile(file, []byte("x"), 0o600) },
		"other's file": func(_, file string) error { return os.Chown(file, 12345, 0) },
	} {
		if name == "other's file" && os.Geteuid() != 0 {
			continue
		}
		s := newStore(t)
		trust(t, s, "", alice)
		dir := filepath.Join(s.dir, "root.d")
		if err := spoil(dir, filepath.Join(dir, fingerprint(alice))); err != nil {
			t.Fatal(err)
		}
		if got, err := verify(s, "x", sig, "a"); !errs.Is(err, errs.Internal) {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}
