// pion/dtls as the peer of one handshake on loopback. It prints a line of JSON for each thing that happens: where it is
// and who (`port`, `certificate`), what was agreed on (`profile`, `cipher`, `keys`, `seen`), and that it is over
// (`closed`). What it is sent in between, it sends back.
package main

import (
	"context"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"net"
	"os"
	"time"

	"github.com/pion/dtls/v3"
	"github.com/pion/dtls/v3/pkg/crypto/elliptic"
	"github.com/pion/dtls/v3/pkg/crypto/selfsign"
)

const (
	label = "EXTRACTOR-dtls_srtp"
	limit = 20 * time.Second
)

func main() {
	port := flag.Int("port", 0, "be the client of the server at this port; 0: be the server")
	profile := flag.Uint("profile", 0, "the SRTP profile, by its IANA number")
	length := flag.Int("length", 0, "bytes of keying material to export")
	curve := flag.Uint("curve", 0, "the only group, by its IANA number")
	cipher := flag.Uint("cipher", 0, "the only cipher suite, by its IANA number")
	mtu := flag.Int("mtu", 1200, "no datagram of the handshake is longer")
	flag.Parse()

	certificate, err := selfsign.GenerateSelfSigned()
	check(err)
	common := []dtls.Option{
		dtls.WithCertificates(certificate),
		dtls.WithCipherSuites(dtls.CipherSuiteID(*cipher)),
		dtls.WithEllipticCurves(elliptic.Curve(*curve)),
		dtls.WithSRTPProtectionProfiles(dtls.SRTPProtectionProfile(*profile)),
		dtls.WithExtendedMasterSecret(dtls.RequireExtendedMasterSecret),
		dtls.WithFlightInterval(100 * time.Millisecond),
		dtls.WithMTU(*mtu),
		// The fingerprint is the whole trust in WebRTC; who is asking compares what was `seen`.
		dtls.WithInsecureSkipVerify(true),
	}

	var connection *dtls.Conn
	if *port != 0 {
		say("certificate", der(certificate))
		connection = dial(*port, common)
	} else {
		connection = accept(certificate, common)
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	check(connection.HandshakeContext(ctx))
	report(connection, *length)
	echo(connection)
	say("closed", true)
}

func dial(port int, common []dtls.Option) *dtls.Conn {
	options := make([]dtls.ClientOption, 0, len(common))
	for _, option := range common {
		options = append(options, option)
	}
	connection, err := dtls.DialWithOptions("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port}, options...)
	check(err)
	return connection
}

func accept(certificate tls.Certificate, common []dtls.Option) *dtls.Conn {
	options := []dtls.ServerOption{dtls.WithClientAuth(dtls.RequireAnyClientCert)}
	for _, option := range common {
		options = append(options, option)
	}
	listener, err := dtls.ListenWithOptions("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}, options...)
	check(err)
	say("certificate", der(certificate))
	say("port", listener.Addr().(*net.UDPAddr).Port)
	connection, err := listener.Accept()
	check(err)
	return connection.(*dtls.Conn)
}

func report(connection *dtls.Conn, length int) {
	state, ok := connection.ConnectionState()
	if !ok {
		check(errors.New("no state after the handshake"))
	}
	keys, err := state.ExportKeyingMaterial(label, nil, length)
	check(err)
	profile, _ := connection.SelectedSRTPProtectionProfile()
	say("profile", uint(profile))
	say("cipher", uint(state.CipherSuiteID))
	say("seen", hex.EncodeToString(state.PeerCertificates[0]))
	say("keys", hex.EncodeToString(keys))
}

func echo(connection *dtls.Conn) {
	buffer := make([]byte, 2048)
	for {
		size, err := connection.Read(buffer)
		if errors.Is(err, io.EOF) {
			return
		}
		check(err)
		_, err = connection.Write(buffer[:size])
		check(err)
	}
}

func der(certificate tls.Certificate) string {
	return hex.EncodeToString(certificate.Certificate[0])
}

func say(name string, value any) {
	check(json.NewEncoder(os.Stdout).Encode(map[string]any{name: value}))
}

func check(err error) {
	if err != nil {
		_ = json.NewEncoder(os.Stdout).Encode(map[string]any{"error": err.Error()})
		os.Exit(1)
	}
}
