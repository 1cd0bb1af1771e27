// Command sshd is the test machine's SSH server: small enough to read, and one static file, where FreeBSD's own needs
// PAM and OpenSSL. It lets in who has one key, as root: commands, shells, terminals, and forwarding to TCP addresses
// and local sockets. Not for machines that others can reach.
//
//	sshd [-listen :22] HOSTKEY AUTHORIZED
//
// HOSTKEY is made if it isn't there; AUTHORIZED is a file of public keys as in authorized_keys.
package main

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"log"
	"net"
	"os"

	"golang.org/x/crypto/ssh"
)

func main() {
	listen := flag.String("listen", ":22", "address to listen on")
	flag.Parse()
	if flag.NArg() != 2 {
		log.Fatal("usage: sshd [-listen ADDRESS] HOSTKEY AUTHORIZED")
	}
	host, err := hostKey(flag.Arg(0))
	if err != nil {
		log.Fatalf("host key: %v", err)
	}
	keys, err := os.ReadFile(flag.Arg(1))
	if err != nil {
		log.Fatalf("authorized keys: %v", err)
	}
	config := &ssh.ServerConfig{PublicKeyCallback: func(_ ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
		return nil, allowed(keys, key)
	}}
	config.AddHostKey(host)
	l, err := net.Listen("tcp", *listen)
	if err != nil {
		log.Fatalf("listen: %v", err)
	}
	for {
		conn, err := l.Accept()
		if err != nil {
			log.Fatalf("accept: %v", err)
		}
		go serve(conn, config)
	}
}

// hostKey reads the private key at path, or makes one there.
func hostKey(path string) (ssh.Signer, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		_, key, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			return nil, err
		}
		block, err := ssh.MarshalPrivateKey(key, "")
		if err != nil {
			return nil, err
		}
		text = pem.EncodeToMemory(block)
		if err := os.WriteFile(path, text, 0o600); err != nil {
			return nil, err
		}
	} else if err != nil {
		return nil, err
	}
	return ssh.ParsePrivateKey(text)
}

// allowed is nil if key is one of those in the text of an authorized_keys file.
func allowed(authorized []byte, key ssh.PublicKey) error {
	for len(authorized) > 0 {
		known, _, _, rest, err := ssh.ParseAuthorizedKey(authorized)
		if err != nil {
			break
		}
		if bytes.Equal(known.Marshal(), key.Marshal()) {
			return nil
		}
		authorized = rest
	}
	return fmt.Errorf("key %s is not authorized", ssh.FingerprintSHA256(key))
}

// serve is one connection's life.
func serve(conn net.Conn, config *ssh.ServerConfig) {
	defer conn.Close()
	c, channels, requests, err := ssh.NewServerConn(conn, config)
	if err != nil {
		log.Printf("%s: %v", conn.RemoteAddr(), err)
		return
	}
	defer c.Close()
	go keepAlive(requests)
	for ch := range channels {
		switch ch.ChannelType() {
		case "session":
			go session(ch)
		case "direct-tcpip":
			go forwardTCP(ch)
		case "direct-streamlocal@openssh.com":
			go forwardLocal(ch)
		default:
			ch.Reject(ssh.UnknownChannelType, ch.ChannelType())
		}
	}
}

// keepAlive answers a client that asks whether the server is there, and refuses remote forwarding.
func keepAlive(requests <-chan *ssh.Request) {
	for r := range requests {
		if r.WantReply {
			r.Reply(r.Type == "keepalive@openssh.com", nil)
		}
	}
}
