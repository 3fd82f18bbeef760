// The published recipe for a relay in Go: SO_REUSEPORT, one goroutine locked to its thread, preallocated buffers, one
// packet for each call, a header with the client's address towards the transceiver, and the same on the way down.
// `plain forward PORT TRANSCEIVER_PORT...` and `plain back PORT`
package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"syscall"
)

const (
	headerOctets = 38
	soReusePort  = 0xf
)

func main() {
	runtime.LockOSThread()
	config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		return raw.Control(func(fd uintptr) {
			syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, soReusePort, 1)
		})
	}}
	packetConn, err := config.ListenPacket(context.Background(), "udp4", "127.0.0.1:"+os.Args[2])
	if err != nil {
		panic(err)
	}
	conn := packetConn.(*net.UDPConn)
	conn.SetReadBuffer(4 << 20)
	var transceivers []netip.AddrPort
	for _, text := range os.Args[3:] {
		port, _ := strconv.Atoi(text)
		transceivers = append(transceivers, netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(port)))
	}
	flows := make(map[netip.AddrPort]netip.AddrPort)
	packet := make([]byte, headerOctets+2048)
	fmt.Println("ready")
	if os.Args[1] == "back" {
		back(conn, packet)
	}
	for {
		length, from, err := conn.ReadFromUDPAddrPort(packet[headerOctets:])
		if err != nil {
			continue
		}
		to, known := flows[from]
		if !known {
			to = transceivers[int(from.Port())%len(transceivers)]
			flows[from] = to
		}
		address := from.Addr().As4()
		copy(packet, address[:])
		packet[16], packet[17] = byte(from.Port()>>8), byte(from.Port())
		conn.WriteToUDPAddrPort(packet[:headerOctets+length], to)
	}
}

func back(conn *net.UDPConn, packet []byte) {
	for {
		length, _, err := conn.ReadFromUDPAddrPort(packet)
		if err != nil || length < headerOctets {
			continue
		}
		to := netip.AddrPortFrom(netip.AddrFrom4([4]byte(packet[:4])), uint16(packet[16])<<8|uint16(packet[17]))
		conn.WriteToUDPAddrPort(packet[headerOctets:length], to)
	}
}
