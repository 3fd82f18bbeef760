"""Roughly where the people of a country or continent are, for callers of whom nothing better is known.

The point is near the middle of where people live, which for most countries is near the middle of the land. Where the
two differ by a lot it is the people who count: the middle of Russia's land is nearer to Tokyo than to Moscow.
"""

Degrees = tuple[float, float]
"""Latitude (north is positive) and longitude (east is positive)."""


def _points(table: str) -> dict[str, Degrees]:
    words = table.split()
    return {code: (float(north), float(east)) for code, north, east in zip(*[iter(words)] * 3, strict=True)}


COUNTRIES = _points("""
AD 42.5 1.5     AE 24.8 55.0    AF 34.3 67.5    AG 17.1 -61.8   AI 18.2 -63.1   AL 41.1 20.0    AM 40.2 44.7
AO -10.5 15.0   AQ -77.8 166.7  AR -33.5 -61.0  AS -14.3 -170.7 AT 47.9 14.8    AU -33.5 146.5  AW 12.5 -70.0
AX 60.2 20.0    AZ 40.4 48.5    BA 44.3 17.9    BB 13.2 -59.5   BD 23.8 90.3    BE 50.8 4.5     BF 12.3 -1.6
BG 42.7 24.9    BH 26.1 50.5    BI -3.3 29.9    BJ 7.5 2.3      BL 17.9 -62.8   BM 32.3 -64.8   BN 4.7 114.8
BO -17.2 -65.5  BQ 12.2 -68.3   BR -17.0 -46.0  BS 25.0 -77.4   BT 27.3 90.0    BV -54.4 3.4    BW -23.6 26.0
BY 53.6 27.9    BZ 17.4 -88.5   CA 46.5 -82.0   CC -12.2 96.8   CD -4.0 22.5    CF 5.5 18.5     CG -3.5 14.5
CH 47.1 8.0     CI 6.5 -5.2     CK -21.2 -159.8 CL -34.5 -71.3  CM 4.8 11.5     CN 32.8 113.5   CO 5.3 -74.5
CR 9.9 -84.1    CU 22.2 -79.9   CV 15.0 -23.6   CW 12.2 -69.0   CX -10.4 105.7  CY 35.0 33.2    CZ 49.8 15.6
DE 50.9 9.9     DJ 11.6 43.0    DK 55.8 10.8    DM 15.4 -61.4   DO 18.8 -70.2   DZ 35.8 3.5     EC -1.5 -79.2
EE 59.0 25.6    EG 29.9 31.1    EH 26.0 -13.5   ER 15.3 38.8    ES 39.9 -3.4    ET 9.0 39.0     FI 61.8 25.0
FJ -17.9 178.1  FK -51.7 -58.3  FM 6.9 158.2    FO 62.0 -6.9    FR 47.0 2.6     GA -0.3 10.5    GB 52.8 -1.6
GD 12.1 -61.7   GE 42.0 43.6    GF 4.9 -52.6    GG 49.5 -2.6    GH 6.6 -1.2     GI 36.1 -5.4    GL 65.5 -51.0
GM 13.4 -16.2   GN 10.2 -11.5   GP 16.2 -61.5   GQ 2.5 9.8      GR 38.8 22.9    GS -54.3 -36.5  GT 14.9 -90.8
GU 13.5 144.8   GW 11.9 -15.3   GY 6.6 -58.2    HK 22.4 114.1   HM -53.1 73.5   HN 14.8 -87.0   HR 45.4 16.1
HT 18.8 -72.5   HU 47.3 19.3    ID -6.0 110.0   IE 53.2 -7.2    IL 32.0 34.9    IM 54.2 -4.5    IN 22.5 79.5
IO -7.3 72.4    IQ 33.4 44.2    IR 34.4 51.4    IS 64.3 -21.0   IT 43.0 12.0    JE 49.2 -2.1    JM 18.1 -77.2
JO 31.8 36.0    JP 35.6 137.5   KE -0.6 36.8    KG 41.9 73.8    KH 11.9 105.0   KI 1.4 173.0    KM -11.9 43.5
KN 17.3 -62.7   KP 39.4 126.2   KR 36.6 127.6   KW 29.3 47.9    KY 19.3 -81.3   KZ 47.0 71.0    LA 18.0 103.5
LB 33.9 35.7    LC 13.9 -61.0   LI 47.2 9.5     LK 7.2 80.4     LR 6.4 -10.2    LS -29.5 27.8   LT 55.2 23.9
LU 49.7 6.1     LV 56.9 24.6    LY 32.2 16.0    MA 33.2 -6.8    MC 43.7 7.4     MD 47.1 28.6    ME 42.5 19.3
MF 18.1 -63.1   MG -19.2 47.0   MH 7.1 171.2    MK 41.8 21.5    ML 13.2 -6.8    MM 19.8 96.0    MN 47.6 105.5
MO 22.2 113.5   MP 15.2 145.7   MQ 14.6 -61.0   MR 17.8 -13.5   MS 16.7 -62.2   MT 35.9 14.4    MU -20.3 57.6
MV 4.2 73.5     MW -14.0 34.4   MX 20.6 -100.3  MY 3.6 103.0    MZ -18.0 36.2   NA -20.5 17.0   NC -22.1 166.3
NE 13.8 6.5     NF -29.0 168.0  NG 9.0 7.0      NI 12.4 -86.2   NL 52.1 5.2     NO 60.8 9.5     NP 27.6 85.0
NR -0.5 166.9   NU -19.1 -169.9 NZ -39.2 175.0  OM 23.2 57.8    PA 8.8 -80.0    PE -10.5 -76.2  PF -17.6 -149.5
PG -6.0 145.5   PH 13.0 122.0   PK 31.0 71.5    PL 51.9 19.3    PM 46.8 -56.2   PN -25.1 -130.1 PR 18.2 -66.3
PS 31.9 35.0    PT 39.9 -8.6    PW 7.4 134.5    PY -25.3 -56.8  QA 25.3 51.4    RE -21.1 55.5   RO 45.7 25.3
RS 44.3 20.7    RU 55.0 48.5    RW -2.0 30.0    SA 24.0 44.5    SB -9.4 160.2   SC -4.6 55.5    SD 14.5 32.0
SE 58.8 15.8    SG 1.35 103.8   SH -15.9 -5.7   SI 46.1 14.8    SJ 78.2 15.6    SK 48.7 19.3    SL 8.5 -11.9
SM 43.9 12.5    SN 14.6 -15.9   SO 4.5 45.3     SR 5.7 -55.2    SS 7.2 30.5     ST 0.3 6.7      SV 13.7 -89.1
SX 18.0 -63.1   SY 34.9 37.3    SZ -26.5 31.4   TC 21.8 -72.2   TD 11.5 17.0    TF -49.35 70.2  TG 7.8 1.1
TH 14.8 101.2   TJ 38.5 69.4    TK -9.2 -171.8  TL -8.7 125.8   TM 38.4 59.4    TN 35.9 10.0    TO -21.1 -175.2
TR 39.2 33.0    TT 10.5 -61.3   TV -8.5 179.2   TW 24.2 120.8   TZ -5.5 35.3    UA 49.0 32.0    UG 1.0 32.2
UM 19.3 166.6   US 38.3 -91.5   UY -34.0 -56.0  UZ 40.4 67.5    VA 41.9 12.5    VC 13.2 -61.2   VE 9.6 -67.8
VG 18.4 -64.6   VI 18.1 -64.8   VN 16.3 106.5   VU -17.0 167.8  WF -13.4 -176.3 WS -13.8 -171.9 XK 42.6 20.9
YE 14.6 44.6    YT -12.8 45.2   ZA -28.0 28.5   ZM -13.6 28.3   ZW -18.7 30.3
""")
"""By ISO 3166-1 alpha-2 code, and XK, which is in common use for Kosovo."""

CONTINENTS = _points("AF 6 18   AN -80 0   AS 26 95   EU 50 12   NA 36 -93   OC -30 150   SA -16 -57")
"""By the codes that geo databases use: Africa, Antarctica, Asia, Europe, North America, Oceania, South America."""
