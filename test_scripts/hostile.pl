#!/usr/bin/perl
# Clients that mean no good, in pools, for soak.sh: they never write, never read, write half of a request, send a body byte by byte,
# and send what is no request, to the port for clients and to the port for other nodes. In Perl, which every Debian image has: it runs
# in a container of the image under test.
#
# usage: hostile.pl SECONDS CONNECTIONS RATE KEY IP...
#   CONNECTIONS  places for connections, at all nodes together. About half of them are in use: a node ends most within seconds
#   RATE         connections to open a second at most: what the nodes spend on these clients is bounded by it
#   KEY          of a long value
# Every 5 s, and at the end, a line for each kind: how many are open, were opened, were ended by the node, and bytes both ways.
use strict;
use warnings;
use Socket;
use Fcntl qw(F_GETFL F_SETFL O_NONBLOCK);
use Errno qw(EAGAIN EINPROGRESS EALREADY ENOTCONN);

my ($seconds, $connections, $rate, $key, @ips) = @ARGV;
die "usage: hostile.pl SECONDS CONNECTIONS RATE KEY IP...\n" unless @ips;
$SIG{PIPE} = 'IGNORE';
$| = 1;

my $TICK = 0.25;     # seconds
my $LONGEST = 40;    # seconds that a connection is kept at most; a node waits 20 s for a body, and for a reader
my $PAUSE = 2;       # seconds before a place is used again
my ($CLIENTS, $NODES) = (8080, 18080);

sub noise { join '', map { chr int rand 256 } 1 .. 1 + int rand $_[0] }
my $put = "PUT /kvs HTTP/1.1\r\nHost: soak\r\nContent-Type: application/json\r\n";
my @requests = (
    "GET /kvs?key=$key&causal_payload= HTTP/1.1\r\nHost: soak\r\n\r\n",
    $put . "Content-Length: 33\r\n\r\n" . '{"key":"hostile","value":[1,"2"]}',
    $put . "Transfer-Encoding: chunked\r\n\r\n21\r\n" . '{"key":"hostile","value":[1,"2"]}' . "\r\n0\r\n\r\n",
    "POST /keys/hostile HTTP/1.1\r\nHost: soak\r\nIf-Match: \"1\"\r\nContent-Length: 30\r\n\r\n" . '{"type":"APPEND","value":"x"}' . "\n",
    "GET /status HTTP/1.1\r\nHost: soak\r\n\r\n",
);
# A valid request with some bytes changed, dropped or doubled.
sub mangled {
    my $text = $requests[rand @requests];
    for (1 .. 1 + int rand 6) {
        my $at = int rand length $text;
        my $how = int rand 3;
        substr($text, $at, 1) = $how == 0 ? chr int rand 256 : $how == 1 ? '' : substr($text, $at, 1 + int rand 20) x 2;
    }
    return $text;
}

# Each kind: its share of the places, its port, whether it reads, what it sends at first, and what at each tick after that.
my %kinds = (
    'silent'         => [3, $CLIENTS, 1, sub { '' }, sub { '' }],
    'unread'         => [4, $CLIENTS, 0, sub { $requests[0] x 3 }, sub { rand() < 0.1 ? $requests[0] : '' }],
    'half-head'      => [3, $CLIENTS, 1, sub { "GET /kvs?key=$key HTTP/1.1\r\nHost: soak\r\nX-Long: " }, sub { 'a' }],
    'slow-body'      => [4, $CLIENTS, 1, sub { $put . "Content-Length: 1000000\r\n\r\n" . '{"key":"hostile","value":"' }, sub { 'b' }],
    'garbage'        => [1, $CLIENTS, 1, sub { noise(4000) }, sub { rand() < 0.5 ? noise(400) : '' }],
    'mangled'        => [1, $CLIENTS, 1, \&mangled, sub { rand() < 0.5 ? mangled() : '' }],
    'peer-silent'    => [2, $NODES, 1, sub { '' }, sub { '' }],
    'peer-half'      => [2, $NODES, 1, sub { 'CAUSEWAY' . noise(60) }, sub { '' }],
    'peer-garbage'   => [1, $NODES, 1, sub { noise(4000) }, sub { noise(400) }],
    'peer-mangled'   => [1, $NODES, 1, sub { 'CAUSEWAY' . pack('v2', 0, 65535) . noise(400) }, sub { noise(400) }],
);
my @names = sort keys %kinds;

my $ticks = 0;
my (%opened, %ended, %sent, %got, @slots);
my @shares = map { ($_) x $kinds{$_}->[0] } @names;
for my $i (0 .. $connections - 1) {
    push @slots, { kind => $shares[$i % @shares], ip => $ips[int($i / @shares) % @ips], at => 0 };
}

sub close_slot {
    my ($slot, $by_node) = @_;
    $ended{ $slot->{kind} }++ if $by_node;
    close $slot->{io};
    delete $slot->{io};
    $slot->{at} = $ticks + $PAUSE / $TICK;
}

sub open_slot {
    my ($slot) = @_;
    my $kind = $kinds{ $slot->{kind} };
    socket(my $io, PF_INET, SOCK_STREAM, 0) or return;
    fcntl($io, F_SETFL, fcntl($io, F_GETFL, 0) | O_NONBLOCK);
    # Without room of its own the kernel of a client that does not read takes little.
    setsockopt($io, SOL_SOCKET, SO_RCVBUF, pack('l', 4096)) unless $kind->[2];
    my $done = connect($io, sockaddr_in($kind->[1], inet_aton($slot->{ip})));
    if (!$done && $! != EINPROGRESS) { close $io; $slot->{at} = $ticks + $PAUSE / $TICK; return; }
    @$slot{qw(io at out)} = ($io, $ticks, $kind->[3]->());
    $opened{ $slot->{kind} }++;
}

sub turn {
    my ($slot) = @_;
    my ($name, $io) = @$slot{qw(kind io)};
    my $kind = $kinds{$name};
    return close_slot($slot, 0) if ($ticks - $slot->{at}) * $TICK > $LONGEST;
    $slot->{out} .= $kind->[4]->() if length($slot->{out}) < 4096;
    if (length $slot->{out}) {
        my $n = syswrite $io, $slot->{out};
        if (defined $n) { substr($slot->{out}, 0, $n) = ''; $sent{$name} += $n; }
        elsif ($! != EAGAIN && $! != EALREADY && $! != ENOTCONN) { return close_slot($slot, 1); }
    }
    if ($kind->[2]) {
        my $n = sysread $io, my $text, 65536;
        if ($n) { $got{$name} += $n; }
        elsif (defined $n || ($! != EAGAIN && $! != EALREADY && $! != ENOTCONN)) { close_slot($slot, 1); }
    }
}

sub report {
    my %open;
    $open{ $_->{kind} }++ for grep { $_->{io} } @slots;
    printf "%d %s %d %d %d %d %d\n", $ticks * $TICK, $_, map { $_ || 0 } $open{$_}, $opened{$_}, $ended{$_}, $sent{$_}, $got{$_} for @names;
}

my $from = 0;
while ($ticks * $TICK < $seconds) {
    my $may = $rate * $TICK;
    for my $n (0 .. $#slots) {
        my $slot = $slots[($from + $n) % @slots];
        if ($slot->{io}) { turn($slot); }
        elsif ($may >= 1 && $slot->{at} <= $ticks) { open_slot($slot); $may--; }
    }
    $from = ($from + 37) % @slots; # so that no slot is always the first to open
    $ticks++;
    report() if $ticks % (5 / $TICK) == 0;
    select undef, undef, undef, $TICK;
}
report();
