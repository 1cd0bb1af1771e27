package main

import (
	"io"
	"net"
	"strconv"

	"golang.org/x/crypto/ssh"
)

// forwardTCP serves a channel to a TCP address: RFC 4254, 7.2.
func forwardTCP(ch ssh.NewChannel) {
	var to struct {
		Host       string
		Port       uint32
		OriginHost string
		OriginPort uint32
	}
	if err := ssh.Unmarshal(ch.ExtraData(), &to); err != nil {
		ch.Reject(ssh.ConnectionFailed, err.Error())
		return
	}
	forward(ch, "tcp", net.JoinHostPort(to.Host, strconv.Itoa(int(to.Port))))
}

// forwardLocal serves a channel to a local socket: OpenSSH's PROTOCOL, 2.4.
func forwardLocal(ch ssh.NewChannel) {
	var to struct {
		Path     string
		Reserved string
		Port     uint32
	}
	if err := ssh.Unmarshal(ch.ExtraData(), &to); err != nil {
		ch.Reject(ssh.ConnectionFailed, err.Error())
		return
	}
	forward(ch, "unix", to.Path)
}

// forward joins a channel and a connection to address. Each direction ends for itself, as docker's attached streams need.
func forward(ch ssh.NewChannel, network, address string) {
	conn, err := net.Dial(network, address)
	if err != nil {
		ch.Reject(ssh.ConnectionFailed, err.Error())
		return
	}
	defer conn.Close()
	channel, requests, err := ch.Accept()
	if err != nil {
		return
	}
	defer channel.Close()
	go ssh.DiscardRequests(requests)
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		io.Copy(conn, channel)
		conn.(interface{ CloseWrite() error }).CloseWrite()
	}()
	io.Copy(channel, conn)
	channel.CloseWrite()
	<-sent
}
