"""The published figures: countries, companies, and the pairs whose density is compared."""

from typing import NamedTuple


class Country(NamedTuple):
    """A country's figures."""

    name: str
    capital: str
    population: int
    area_km2: int
    gdp_usd: float
    gdp_per_capita: float


class Company(NamedTuple):
    """A company's revenue of the third quarter as it was claimed and as it was, in billions of dollars."""

    name: str
    claimed: float
    actual: float


COUNTRIES = (
    Country("Germany", "Berlin", 83_200_000, 357_022, 4260000000000.0, 51200.0),
    Country("Brazil", "Brasilia", 203_000_000, 8_515_767, 2170000000000.0, 10690.0),
    Country("Canada", "Ottawa", 40_100_000, 9_984_670, 2140000000000.0, 53400.0),
    Country("Japan", "Tokyo", 125_700_000, 377_975, 4270000000000.0, 33950.0),
    Country("France", "Paris", 67_390_000, 643_801, 3030000000000.0, 44747.0),
    Country("India", "New Delhi", 1_428_627_663, 3_287_263, 3730000000000.0, 2610.0),
    Country("Australia", "Canberra", 26_473_055, 7_692_024, 1690000000000.0, 63900.0),
    Country("Italy", "Rome", 58_850_000, 301_340, 2250000000000.0, 38250.0),
    Country("Spain", "Madrid", 48_600_000, 505_990, 1580000000000.0, 32500.0),
    Country("South Korea", "Seoul", 51_710_000, 100_210, 1710000000000.0, 33070.0),
    Country("Mexico", "Mexico City", 129_000_000, 1_964_375, 1810000000000.0, 14030.0),
    Country("Indonesia", "Jakarta", 277_500_000, 1_904_569, 1420000000000.0, 5120.0),
    Country("Norway", "Oslo", 5_550_000, 385_207, 485000000000.0, 87390.0),
    Country("Egypt", "Cairo", 112_700_000, 1_010_408, 398000000000.0, 3530.0),
    Country("Kenya", "Nairobi", 55_100_000, 580_367, 113000000000.0, 2050.0),
)
COMPANIES = (
    Company("NovaTech", 2.3, 1.87),
    Company("HelioWorks", 0.94, 0.94),
    Company("AsterCloud", 4.8, 4.12),
    Company("QuantumForge", 1.45, 1.32),
    Company("Riverline Health", 3.05, 3.05),
    Company("Cobalt Grid", 0.72, 0.61),
    Company("Northstar Robotics", 2.76, 2.76),
    Company("Vela Foods", 1.18, 0.98),
    Company("Arcadia Freight", 5.2, 4.91),
    Company("Lumen BioSystems", 0.38, 0.38),
    Company("SignalPeak Media", 1.02, 0.84),
    Company("Copperleaf Energy", 6.4, 6.4),
    Company("BlueHarbor Bank", 3.9, 3.44),
    Company("Orbital Transit", 2.11, 2.11),
    Company("SummitWare", 0.66, 0.57),
)
# By position in COUNTRIES, so that renamed countries keep their partners.
DENSITY_PAIRS = (
    (5, 6),
    (0, 2),
    (3, 4),
    (9, 1),
    (7, 8),
    (11, 10),
    (12, 13),
    (14, 2),
    (4, 6),
    (3, 1),
    (0, 12),
    (5, 2),
    (8, 13),
    (9, 6),
    (7, 10),
)
