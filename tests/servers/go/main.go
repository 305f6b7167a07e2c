// An SFTP server on Go's pkg/sftp, as its package has one for real files: main PORT HOST-KEY USER-KEY LOGIN-FOLDER USERNAME
//
// What servers on pkg/sftp have in common (SFTPGo, MinIO and rclone put its RequestServer on files of their own): requests
// are handed to several workers, so that WRITEs, FSTAT and FSETSTAT of one handle overtake each other; only CLOSE waits.
package main

import (
	"bytes"
	"log"
	"net"
	"os"

	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"
)

func main() {
	port, hostKey, userKey, loginFolder, username := os.Args[1], os.Args[2], os.Args[3], os.Args[4], os.Args[5]
	config := makeConfig(hostKey, userKey, username)
	must(os.Chdir(loginFolder))
	listener, err := net.Listen("tcp", "127.0.0.1:"+port)
	must(err)
	for {
		connection, err := listener.Accept()
		must(err)
		go serve(connection, config)
	}
}

func makeConfig(hostKey, userKey, username string) *ssh.ServerConfig {
	text, err := os.ReadFile(userKey)
	must(err)
	known, _, _, _, err := ssh.ParseAuthorizedKey(text)
	must(err)
	private, err := os.ReadFile(hostKey)
	must(err)
	signer, err := ssh.ParsePrivateKey(private)
	must(err)
	config := &ssh.ServerConfig{
		PublicKeyCallback: func(about ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
			if about.User() == username && bytes.Equal(key.Marshal(), known.Marshal()) {
				return nil, nil
			}
			return nil, os.ErrPermission
		},
	}
	config.AddHostKey(signer)
	return config
}

func serve(connection net.Conn, config *ssh.ServerConfig) {
	defer connection.Close()
	_, channels, requests, err := ssh.NewServerConn(connection, config)
	if err != nil {
		return
	}
	go ssh.DiscardRequests(requests)
	for asked := range channels {
		if asked.ChannelType() != "session" {
			asked.Reject(ssh.UnknownChannelType, "sessions only")
			continue
		}
		channel, requests, err := asked.Accept()
		if err != nil {
			return
		}
		go serveChannel(channel, requests)
	}
}

func serveChannel(channel ssh.Channel, requests <-chan *ssh.Request) {
	for request := range requests {
		isSftp := request.Type == "subsystem" && len(request.Payload) > 4 && string(request.Payload[4:]) == "sftp"
		request.Reply(isSftp, nil)
		if isSftp {
			go serveFiles(channel)
		}
	}
}

func serveFiles(channel ssh.Channel) {
	defer channel.Close()
	server, err := sftp.NewServer(channel)
	if err != nil {
		return
	}
	server.Serve()
	server.Close()
	channel.SendRequest("exit-status", false, []byte{0, 0, 0, 0})
}

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
